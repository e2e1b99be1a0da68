# A thread has a lock of Perl's, or would signal a condition, when the process forks; the child wants it, and its alarm
# ends it. By the first argument: lock, cond_wait.
use strict;
use warnings;
use threads;
use threads::shared;
use POSIX ();

my $kind = shift;
my $lock :shared = 0;
my $held :shared = 0;

sub tell_held { lock($held); $held = 1; cond_signal($held) }

threads->create(sub {
    lock($lock);
    tell_held();
    select(undef, undef, undef, 100);
})->detach if $kind eq "lock";
threads->create(sub { tell_held(); select(undef, undef, undef, 100) })->detach if $kind ne "lock";
{ lock($held); cond_wait($held) until $held }

my $child = fork;
if (!$child) {
    alarm 2;
    lock($lock);
    cond_wait($lock) if $kind ne "lock";
    POSIX::_exit(0);
}
waitpid $child, 0;
syswrite STDOUT, $? == 0 ? "went on\n" : ($? & 127) == 14 ? "Alarm clock\n" : ($? & 127) == 6 ? "Aborted\n" : "$?\n";
POSIX::_exit(0);
