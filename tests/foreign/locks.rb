# A thread has a mutex of Ruby's, or would fill a queue, when the process forks; the child wants it. By the first
# argument: mutex, queue.
mutex, queue, held = Mutex.new, Queue.new, Queue.new
Thread.new do
  mutex.lock if ARGV[0] == "mutex"
  held << true
  sleep
end
held.pop
child = fork do
  begin
    ARGV[0] == "mutex" ? mutex.lock : queue.pop
  rescue Exception => error
    exit!(error.class.to_s == "fatal" ? 7 : 8)
  end
  exit!(0)
end
Process.wait(child)
puts({0 => "went on", 7 => "fatal"}[$?.exitstatus] || $?.inspect)
STDOUT.flush
exit!(0)
