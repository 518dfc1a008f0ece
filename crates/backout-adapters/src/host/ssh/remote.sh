# What Backout does on a host. One request comes in on standard input: lines of shell, quoted by the sender, up to the line
# `#NONCE`. The answer begins with a line that starts with `#NONCE`, so that what a login prints before is not taken for it.
# For any POSIX shell; needs Linux, setsid, flock (util-linux) and timeout (coreutils), or those of busybox.
#
# Of each service there are, below units/APP/ENVIRONMENT:
#   SERVICE.run     the last changing call:  PID START BOOT NONCE OUT ERR STEP
#   SERVICE.result  how it ended:            NONCE CODE
#   SERVICE.guard   its guard:               TOKEN DEPLOYMENT STATE TIME STEP
#   SERVICE.watch   who watches:             PID START BOOT
# Files are replaced by renaming, and changed under a lock of the environment.
unset CDPATH
lib=$0
units=${lib%/lib/*}/units
setsid=$(command -v setsid) timeout=$(command -v timeout)
read -r boot < /proc/sys/kernel/random/boot_id
end_grace=2
most=4194304

answer() { echo "#$nonce $*"; }
refuse() { answer refused "$@"; exit 94; }

put() { # FILE TEXT
    printf '%s\n' "$2" > "$1.$$" && mv -f "$1.$$" "$1"
}

start_of() { # PID -> start
    read -r stat 2> /dev/null < "/proc/$1/stat" || return 1
    stat=${stat##*) }
    # shellcheck disable=SC2086
    set -- $stat
    [ "$1" != Z ] && [ "$1" != X ] && start=${20}
}

is_alive() { # PID START BOOT
    [ -n "$1" ] && [ "$3" = "$boot" ] && start_of "$1" && [ "$start" = "$2" ]
}

is_at_work() { # -> r_…
    [ -s "$f.run" ] || return 1
    read -r r_pid r_start r_boot r_nonce r_out r_err r_step < "$f.run"
    is_alive "$r_pid" "$r_start" "$r_boot"
}

end_call() { # the group of the call that was just seen at work
    kill -s TERM -- "-$r_pid" 2> /dev/null
    tries=0
    while is_alive "$r_pid" "$r_start" "$boot"; do
        tries=$((tries + 1))
        [ "$tries" -eq $((end_grace * 10)) ] && kill -s KILL -- "-$r_pid" 2> /dev/null
        [ "$tries" -gt $((end_grace * 10 + 50)) ] && return 1
        sleep 0.1
    done
    # What ignored it stays behind when its leader has gone.
    kill -s KILL -- "-$r_pid" 2> /dev/null
    return 0
}

read_guard() { # -> g_…
    g_token='' g_deployment='' g_state='' g_time=0 g_step=''
    [ -s "$f.guard" ] && read -r g_token g_deployment g_state g_time g_step < "$f.guard"
}

is_watched() {
    w_pid=''
    [ -s "$f.watch" ] && read -r w_pid w_start w_boot < "$f.watch"
    is_alive "$w_pid" "$w_start" "$w_boot"
}

set_guard() { # STATE
    put "$f.guard" "$g_token $g_deployment $1 $(date +%s) $g_step"
}

enter() { # FOLDER below the folder that is ours
    cd -- "$HOME" && { [ -z "$home" ] || cd -- "$home"; } && { [ -z "$1" ] || cd -- "$1"; }
}

require_program() {
    case $1 in
    */*)
        [ -f "$1" ] || refuse missing "$1"
        [ -x "$1" ] || refuse not_executable "$1"
        ;;
    *) command -v -- "$1" > /dev/null || refuse missing "$1" ;;
    esac
}

size_of() { # FILE -> size
    size=0
    [ -s "$1" ] && size=$(wc -c < "$1")
    size=$((size))
}

send() { # FILE FROM TOTAL LENGTH: both ends, where it is longer
    [ "$4" -eq 0 ] && return
    if [ "$3" -eq "$4" ]; then
        tail -c "+$(($2 + 1))" "$1" | head -c "$3"
    else
        tail -c "+$(($2 + 1))" "$1" | head -c "$keep"
        tail -c "$keep" "$1"
    fi
}

make_folder() { [ -d "$units/$unit" ] || mkdir -p "$units/$unit" || refuse folder "$units/$unit"; }

lock() {
    make_folder
    exec 9> "$units/$unit/lock"
    flock -w 30 9 || refuse busy "$unit"
}

unlock() { exec 9>&-; }

# Whole before anything is locked: a link may fall silent in the middle for hours, and nobody shall wait for it meanwhile.
# The file loses its name at once. So it is this request's alone, and goes with it, however that ends.
take_input() { # -> descriptor 4
    [ "$bytes" -gt 0 ] || { exec 4< /dev/null; return; }
    make_folder
    true > "$f.in.$nonce" || refuse folder "$units/$unit"
    exec 4< "$f.in.$nonce"
    rm -f "$f.in.$nonce"
    head -c "$bytes" <&3 > /proc/self/fd/4
    # Opened anew by its descriptor: reading that one itself would move it.
    size_of /proc/self/fd/4
    [ "$size" -eq "$bytes" ] || refuse short "$size"
}

# An older holder of the lease does nothing any more.
fence() {
    seen=0
    [ -s "$units/$unit/epoch" ] && read -r seen < "$units/$unit/epoch"
    [ "$epoch" -lt "$seen" ] && refuse epoch "$seen"
    [ "$epoch" -eq "$seen" ] || put "$units/$unit/epoch" "$epoch"
}

# What an earlier change is guarded by ends here, unless this call belongs to it.
settle_guard() {
    read_guard
    [ -n "$g_token" ] || return 0
    if [ "$g_state" = reverting ] && is_watched; then refuse reverting "$g_deployment"; fi
    # Parts of a step are named STEP/PART.
    if [ -z "$guard" ] && { [ "$g_step" = "$step" ] || [ "${step#"$g_step"/}" != "$step" ]; }; then
        case $g_state in
        reverting | reverted | failed) refuse taken_back "$g_time" ;;
        *) return 0 ;;
        esac
    fi
    rm -f "$f.guard"
}

arm() {
    g_token=$nonce g_deployment=$guard g_step=$step
    enter "$guard_folder" || refuse folder "${guard_folder:-$home}"
    put "$f.guard" "$g_token $g_deployment armed 0 $g_step" || refuse folder "$f.guard"
    (
        umask "$mask"
        export_back
        back_words watcher
    ) < /dev/null > "$f.log" 2>&1 9>&- 3<&- 4<&- &
    start_of "$!" || { rm -f "$f.guard"; refuse arm "$!"; }
    put "$f.watch" "$! $start $boot"
}

watcher() { exec "$setsid" /bin/sh "$lib" watch "$f" "$unit" "$g_token" "$guard_within" "$guard_limit" "$@"; }

job() { exec "$setsid" "$timeout" -k "$end_grace" "$limit" /bin/sh "$lib" job "$f" "$nonce" "$@"; }

start_call() { # PROGRAM ARGUMENTS
    settle_guard
    enter "$folder" || refuse folder "${folder:-$home}"
    require_program "$1"
    if [ -n "$guard" ]; then
        arm
        enter "$folder"
    fi
    rm -f "$f.result"
    for stream in out err; do
        size_of "$f.$stream"
        [ "$size" -le "$most" ] || : > "$f.$stream"
    done
    size_of "$f.out" && r_out=$size
    size_of "$f.err" && r_err=$size
    (
        umask "$mask"
        export_call
        job "$@"
    ) <&4 >> "$f.out" 2>> "$f.err" 9>&- 3<&- 4<&- &
    r_pid=$! r_nonce=$nonce
    start_of "$r_pid" && r_start=$start
    put "$f.run" "$r_pid $r_start $boot $nonce $r_out $r_err $step"
}

report() { # STATUS of the wait
    code="lost $1"
    if [ -s "$f.result" ]; then
        read -r nonce_of code_of < "$f.result"
        # Ended for its time, a program may still have said how it takes that.
        if [ "$nonce_of" = "$r_nonce" ] && { [ "$1" -ne 124 ] || [ "$code_of" -eq 124 ]; }; then
            code="exited $code_of"
        fi
    fi
    size_of "$f.out" && [ "$size" -lt "$r_out" ] && r_out=0
    out=$((size - r_out))
    size_of "$f.err" && [ "$size" -lt "$r_err" ] && r_err=0
    err=$((size - r_err))
    out_sent=$out err_sent=$err
    [ "$out" -gt $((keep * 2)) ] && out_sent=$((keep * 2))
    [ "$err" -gt $((keep * 2)) ] && err_sent=$((keep * 2))
    answer "$code $out_sent $out $err_sent $err"
    send "$f.out" "$r_out" "$out" "$out_sent"
    send "$f.err" "$r_err" "$err" "$err_sent"
    for stream in out err; do
        size_of "$f.$stream"
        [ "$size" -le $((most * 4)) ] || : > "$f.$stream"
    done
}

change() {
    f=$units/$unit/$service
    exec 3<&0
    take_input
    lock
    fence
    joined=''
    if is_at_work; then
        if [ "$r_step" = "$step" ]; then joined=1; else end_call || refuse stays "$r_pid"; fi
    fi
    [ -n "$joined" ] || start_call "$@"
    unlock
    exec 4<&-
    # The caller says `end` when it wants no more. A link that just ends says nothing: the call goes on.
    (
        IFS= read -r word
        if [ "$word" = end ] && is_alive "$r_pid" "$r_start" "$boot"; then end_call; fi
    ) <&3 > /dev/null 2>&1 &
    reader=$!
    if [ -n "$joined" ]; then
        while is_alive "$r_pid" "$r_start" "$boot"; do sleep 0.1; done
        status=0
    else
        wait "$r_pid"
        status=$?
    fi
    kill "$reader" 2> /dev/null
    report "$status"
}

run_first() { # COUNT WORDS…: runs the first words
    count=$1
    shift
    all=$# i=0
    for word in "$@"; do
        i=$((i + 1))
        [ "$i" -le "$count" ] && set -- "$@" "$word"
    done
    shift "$all"
    "$timeout" -k "$end_grace" "$guard_limit" "$@" < /dev/null
}

is_mine() {
    read_guard
    [ "$g_token" = "$token" ] && [ "$g_state" = armed ]
}

# Waits in small sleeps: a clock that is set has no say in it.
watch() { # FILE UNIT TOKEN WITHIN LIMIT COUNT WORDS…
    f=$1 unit=$2 token=$3 within=$4 guard_limit=$5
    shift 5
    nap=200 nap_s=0.2 waited=0
    [ "$within" -gt 30000 ] && nap=1000 nap_s=1
    while :; do
        while [ "$waited" -lt "$within" ]; do
            sleep "$nap_s"
            is_mine || exit 0
            if is_at_work; then waited=0; else waited=$((waited + nap)); fi
        done
        exec 9> "$units/$unit/lock"
        flock 9
        is_mine || exit 0
        is_at_work || break
        waited=0
        unlock
    done
    set_guard reverting
    unlock
    status=0
    while [ "$#" -gt 1 ] && [ "$status" -eq 0 ]; do
        run_first "$@"
        status=$?
        shift $(($1 + 1))
    done
    if [ "$status" -eq 0 ]; then set_guard reverted; else set_guard failed; fi
}

write_file() {
    enter '' || refuse folder "$home"
    parent=.
    case $path in */*) parent=${path%/*} ;; esac
    [ -n "$parent" ] || parent=/
    [ -d "$parent" ] || mkdir -p "$parent" || refuse folder "$parent"
    [ -d "$path" ] && refuse directory "$path"
    new=$path.$nonce
    case $new in -*) new=./$new path=./$path ;; esac
    dd "of=$new" bs=65536 conv=fsync 2> /dev/null || { rm -f "$new"; refuse folder "$parent"; }
    size_of "$new"
    [ "$size" -eq "$bytes" ] || { rm -f "$new"; refuse short "$size"; }
    chmod "$mode" "$new" && mv -f "$new" "$path" || { rm -f "$new"; refuse folder "$parent"; }
    sync "$parent" 2> /dev/null || sync
    answer written
}

read_file() {
    enter '' || refuse folder "$home"
    case $path in -*) path=./$path ;; esac
    [ -e "$path" ] || { answer none; return; }
    [ -f "$path" ] || refuse directory "$path"
    [ -r "$path" ] || refuse unreadable "$path"
    size_of "$path"
    [ "$size" -le "$bytes" ] || refuse long "$size"
    answer "file $size"
    cat "$path"
}

confirm() {
    f=$units/$unit/$service
    lock
    read_guard
    if [ "$g_deployment" = "$deployment" ] && [ "$g_state" = armed ]; then set_guard confirmed; fi
    show_guard
}

show_guard() {
    f=$units/$unit/$service
    read_guard
    [ -n "$g_token" ] || { answer unguarded; return; }
    watched=lost
    is_watched && watched=watched
    answer "guard $g_deployment $g_state $g_time $watched"
    [ "$g_state" = failed ] && tail -c 2000 "$f.log"
}

last_words() {
    f=$units/$unit/$service words=''
    read_guard
    for stream in out err log; do
        size_of "$f.$stream"
        # What a watcher has said belongs to the guard that it watched.
        [ "$stream" = log ] && [ -z "$g_token" ] && size=0
        [ "$size" -le "$bytes" ] || size=$bytes
        words="$words $size"
    done
    answer "words$words"
    for stream in out err log; do
        words=${words# }
        size=${words%% *}
        words=${words#"$size"}
        # More may have been written meanwhile.
        [ "$size" -eq 0 ] || tail -c "$size" "$f.$stream" | head -c "$size"
    done
}

case $1 in
job)
    f=$2 nonce=$3
    shift 3
    # The group's end is for the program; this waits for it, so that it can't stay behind alone.
    trap : TERM HUP INT
    "$@"
    put "$f.result" "$nonce $?"
    exit
    ;;
watch)
    shift
    trap '' HUP
    watch "$@"
    exit
    ;;
esac

mask=$(umask)
umask 077
nonce=$1 request='' line=''
while IFS= read -r line; do
    [ "$line" = "#$nonce" ] && break
    request="$request$line
"
done
[ "$line" = "#$nonce" ] || exit 90
set --
guard=''
eval "$request"
case $verb in
look)
    enter "$folder" || refuse folder "${folder:-$home}"
    require_program "$1"
    answer run
    umask "$mask"
    export_call
    if [ "$bytes" -eq 0 ]; then exec < /dev/null; fi
    exec "$timeout" -k "$end_grace" "$limit" "$@"
    ;;
change) change "$@" ;;
write) write_file ;;
read) read_file ;;
exists)
    enter '' || refuse folder "$home"
    case $path in -*) path=./$path ;; esac
    if [ -e "$path" ] || [ -L "$path" ]; then answer yes; else answer no; fi
    ;;
at_work)
    f=$units/$unit/$service
    if is_at_work; then answer yes; else answer no; fi
    ;;
last_words) last_words ;;
guard) show_guard ;;
confirm) confirm ;;
esac
