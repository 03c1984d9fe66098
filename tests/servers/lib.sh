# What the scripts beside this one share. Sourced, not run.

servers="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${ONCESINK_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/oncesink-tests}"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# A port that nobody holds, below the range that the kernel hands out for outgoing connections: a server that is
# stopped and started again finds its port still free.
free_port() {
  perl -MIO::Socket::INET -e '
    for (1 .. 1000) {
      my $port = 12000 + int rand 20000;
      my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => $port) or next;
      print "$port\n"; exit 0;
    }
    die "no free port\n";'
}

# Waits until a command succeeds: wait_until SECONDS COMMAND…
wait_until() {
  local deadline=$((SECONDS + $1)); shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}

# Makes a process the server of a directory: own_process DIR PID
own_process() { printf '%s\n' "$2" >"$1/pid"; began "$2" >"$1/began"; }

# When a process that has not ended began, in ticks since the machine's start. A killed one has its port and its files until the last of
# its threads has ended, though the first of them is a zombie by then.
began() {
  local stat threads
  stat="$(cat "/proc/$1/stat" 2>/dev/null)" || return 1
  stat="${stat##*) }"
  threads=("/proc/$1/task/"*)
  [[ "$stat" == [ZX]* ]] && ((${#threads[@]} < 2)) || cut -d " " -f 20 <<<"$stat"
}

# Whether the server of a directory runs. A number is given to other processes later, so it is known by when it began: unlike its
# command line, that stays the same while the process becomes its program.
runs() {
  local pid began
  pid="$(cat "$1/pid" 2>/dev/null)" && began="$(began "$pid")" && [ -n "$began" ] && [ "$began" = "$(cat "$1/began")" ]
}
gone() { ! runs "$1"; }

# Ends the server of a directory by its pid: stop_pid DIR SIGNAL
stop_pid() {
  runs "$1" || { rm -f "$1/pid"; return 0; }
  local pid; pid="$(cat "$1/pid")"
  kill -CONT "$pid" 2>/dev/null
  kill "-$2" "$pid" 2>/dev/null
  wait_until 30 gone "$1" || kill -KILL "$pid" 2>/dev/null
  wait_until 10 gone "$1"
  rm -f "$1/pid"
}

server_kill() { stop_pid "$directory" KILL; }

# Serves for as long as somebody holds this script's standard input: `start`, `stop` and `kill` come as lines, for a cluster with
# the number of a node, and are answered by one line each; at the end of the input the server is stopped. So a test that is killed
# leaves none behind.
# What else a server can be told is its own: `server_command WORD…`, answered by one line too.
serve() {
  trap 'server_stop >&2; exit 130' INT TERM HUP
  server_start >&2 || { printf 'failed see %s\n' "$directory"; exit 1; }
  server_ready
  local command node
  while read -r command node; do
    case "$command" in
      start) if server_start $node >&2; then server_ready; else printf 'failed see %s\n' "$directory"; fi ;;
      stop) server_stop $node >&2; printf 'stopped\n' ;;
      kill) server_kill $node >&2; printf 'stopped\n' ;;
      *) if declare -F server_command >/dev/null; then server_command $command $node; else printf 'failed unknown command\n'; fi ;;
    esac
  done
  server_stop >&2
}
