// A thread holds a lock of Rust's standard library when the process forks; the child takes it, and then a thread of the
// child does. Ends with 0, or with 1 when the child hangs. Which lock: by the first argument.
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Mutex, Once, OnceLock, RwLock};
use std::{fs, process, thread};

extern "C" {
    fn fork() -> i32;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn alarm(seconds: u32) -> u32;
    fn _exit(code: i32) -> !;
}

static MUTEX: Mutex<u32> = Mutex::new(0);
static RWLOCK: RwLock<u32> = RwLock::new(0);
static ONCE: Once = Once::new();
static CELL: OnceLock<u32> = OnceLock::new();
static HELD: AtomicBool = AtomicBool::new(false);
static WAITING: AtomicU32 = AtomicU32::new(0);

fn keep() -> ! {
    HELD.store(true, SeqCst);
    loop {
        thread::park();
    }
}

fn hold(what: &str) {
    match what {
        "mutex" => { let _guard = MUTEX.lock(); keep() }
        "read" | "read-waiting" | "write" | "write-waiting" => { let _guard = RWLOCK.write(); keep() }
        "write-read" => { let _guard = RWLOCK.read(); keep() }
        "once" => ONCE.call_once(|| keep()),
        "cell" => { CELL.get_or_init(|| keep()); }
        _ => { let _guard = std::io::stdout().lock(); keep() }
    }
}

fn take(what: &str) {
    match what {
        "mutex" => drop(MUTEX.lock()),
        "read" | "read-waiting" => drop(RWLOCK.read()),
        "write" | "write-waiting" | "write-read" => drop(RWLOCK.write()),
        "once" => ONCE.call_once(|| ()),
        "cell" => { CELL.get_or_init(|| 1); }
        _ => println!("a line"),
    }
}

fn do_others_sleep() -> bool {
    fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path()).all(|task| {
        task.ends_with(process::id().to_string()) || fs::read_to_string(task.join("stat")).unwrap().contains(") S ")
    })
}

fn main() {
    let what: &'static str = Box::leak(std::env::args().nth(1).unwrap().into_boxed_str());
    thread::spawn(move || hold(what));
    while !HELD.load(SeqCst) {
        thread::yield_now();
    }
    if what.ends_with("waiting") {
        for _ in 0..2 {
            thread::spawn(|| { WAITING.fetch_add(1, SeqCst); drop(RWLOCK.write()) });
            thread::spawn(|| { WAITING.fetch_add(1, SeqCst); drop(RWLOCK.read()) });
        }
        while WAITING.load(SeqCst) < 4 || !do_others_sleep() {
            thread::yield_now();
        }
    }
    unsafe {
        let child = fork();
        if child == 0 {
            alarm(10);
            take(what);
            thread::spawn(move || take(what)).join().unwrap();
            take(what);
            _exit(0);
        }
        let mut status = 0;
        waitpid(child, &mut status, 0);
        _exit((status != 0) as i32);
    }
}
