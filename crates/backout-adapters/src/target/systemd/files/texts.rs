//! What is run on another host: texts for `sh` that never change, with what they work on as arguments.

/// LINK NOTE PID: what stands there, as fields.
pub(super) const LOOK: &str = r#"
if [ -L "$1" ]; then printf 'link\0%s\0' "$(readlink -- "$1")"
elif [ -e "$1" ]; then printf 'other\0\0'
else printf 'none\0\0'; fi
printf '%s\0' "$(readlink -- "/proc/$3/exe" 2> /dev/null)"
if [ -e "$2" ]; then printf 'note\0'; exec head -c 65536 -- "$2"; fi
printf 'bare\0'"#;

/// LINK TEXT TEMPORARY NOTE ITS-TEXT VARIABLES ITS-TEXT; without TEXT the link stays.
pub(super) const BEGIN: &str = r#"
set -e
folder=${1%/*}; folder=${folder:-/}
mkdir -p -- "$folder"
printf '%s' "$5" > "$4.new"
printf '%s' "$7" > "$6.new"
chmod 644 -- "$4.new" "$6.new"
sync -- "$4.new" "$6.new" 2> /dev/null || sync
mv -fT -- "$4.new" "$4"
mv -fT -- "$6.new" "$6"
if [ -n "$2" ]; then ln -sfn -- "$2" "$3"; mv -fT -- "$3" "$1"; fi
sync -- "$folder" 2> /dev/null || sync"#;

/// NOTE ITS-TEXT
pub(super) const NOTE: &str = r#"
set -e
printf '%s' "$2" > "$1.new"
chmod 644 -- "$1.new"
sync -- "$1.new" 2> /dev/null || sync
mv -fT -- "$1.new" "$1"
sync -- "${1%/*}" 2> /dev/null || sync"#;

/// LINK AFTER TEXT TEMPORARY VARIABLES NOTE
pub(super) const LEAVE: &str = r#"
set -e
folder=${1%/*}; folder=${folder:-/}
case $2 in
back) ln -sfn -- "$3" "$4"; mv -fT -- "$4" "$1" ;;
removed) rm -f -- "$1" ;;
esac
rm -f -- "$5" "$5.new" "$6.new" "$4"
sync -- "$folder" 2> /dev/null || sync
rm -f -- "$6"
sync -- "$folder" 2> /dev/null || sync"#;

/// FILES…: of each its length and its bytes, or a dash.
pub(super) const READ: &str = r#"
for file; do
    if [ -f "$file" ]; then
        size=$(wc -c < "$file") || exit 1
        printf '%s\0' "$((size))"
        head -c "$((size))" -- "$file" || exit 1
    else
        printf '%s\0' -
    fi
done"#;

/// FOLDER ODD PLAIN: a listing; ODD and PLAIN sums of files come in, and the code says whether they are right.
pub(super) const COMPARE: &str = r#"
cd -- "$1" 2> /dev/null || exit 3
lacks() { printf '%s' "$1" >&2; exit 4; }
for tool in find readlink sha256sum; do command -v "$tool" > /dev/null || lacks "\`$tool\`"; done
# What a program has made there for itself may be closed to us: it does not count, and what counts and is not listed is missing.
if find / -prune -printf '' 2> /dev/null; then
    find . -mindepth 1 -printf '%y %m %P\0%l\0' 2> /dev/null || :
else
    # That of busybox finds modes, and prints none. These two are all that a release has.
    find / -prune -perm 444 -exec true {} + 2> /dev/null || lacks 'a `find` with `-perm` and `-exec … +`'
    list='for at; do
        text=
        if [ -L "$at" ]; then text=$(readlink -- "$at"; echo .); text=${text%??}; fi
        printf "%s %s\0%s\0" "$0" "${at#./}" "$text"
    done'
    find . -mindepth 1 -type d -exec sh -c "$list" 'd 755' {} + -o -type l -exec sh -c "$list" 'l 777' {} + \
        -o -type f -perm 444 -exec sh -c "$list" 'f 444' {} + \
        -o -type f -perm 555 -exec sh -c "$list" 'f 555' {} + 2> /dev/null || :
fi
odd=$2
while [ "$odd" -gt 0 ]; do
    IFS= read -r line || exit 1
    name=$(printf '%b.' "${line#* }")
    name=./${name%.}
    [ -f "$name" ] && sum=$(sha256sum < "$name") && [ "${sum%% *}" = "${line%% *}" ] || exit 1
    odd=$((odd - 1))
done
if [ "$3" = 0 ] || sha256sum -c - > /dev/null 2>&1; then exit 0; fi
# The sum of nothing is known.
printf '%s  /dev/null\n' e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 |
    sha256sum -c - > /dev/null 2>&1 || lacks 'a `sha256sum` with `-c`'
exit 1"#;

/// RELEASES PACKED PIECE: how many whole pieces of a packed file are there, and the sum of them all.
pub(super) const ROOM: &str = r#"
set -e
mkdir -p -- "$1"
size=0
if [ -f "$2" ]; then size=$(wc -c < "$2"); fi
pieces=$((size / $3))
echo "$pieces"
[ "$pieces" -eq 0 ] || head -c "$((pieces * $3))" -- "$2" | sha256sum"#;

/// FOLDER LABEL ITS-TEXT PACKED NEW: a folder that is there already keeps what a program has written into it.
pub(super) const UNPACK: &str = r#"
set -e
rm -rf -- "$5"
mkdir -- "$5"
tar -xpf - --no-same-owner -C "$5" < "$4"
chmod 755 -- "$5"
printf '%s' "$3" > "$2.new"
chmod 644 -- "$2.new"
sync -f -- "$5" 2> /dev/null || sync
mv -fT -- "$2.new" "$2"
if [ -d "$1" ]; then
    # Renamed, and not copied: that of busybox writes through the links that stand there. First goes what is of another
    # kind, and what that of busybox does not know how to replace.
    find "$5" -type d -exec sh -c 'there=$0 new=$1
        shift
        files() {
            at=$1 to=$2
            set --
            for file in "$at"/* "$at"/.[!.]* "$at"/..?*; do
                if [ ! -L "$file" ] && [ ! -f "$file" ]; then continue; fi
                old=$to/${file##*/}
                if [ -L "$old" ]; then [ -e "$old" ]; else [ ! -d "$old" ]; fi || rm -rf -- "$old" || exit
                set -- "$@" "$file"
                if [ "$#" -ge 100 ]; then
                    mv -f -- "$@" "$to/" || exit
                    set --
                fi
            done
            [ "$#" -eq 0 ] || mv -f -- "$@" "$to/" || exit
        }
        for folder; do
            to=$there${folder#"$new"}
            if [ -L "$to" ] || [ ! -d "$to" ]; then rm -rf -- "$to" && mkdir -m 755 -- "$to" || exit; fi
            files "$folder" "$to"
        done' "$1" "$5" {} +
    rm -rf -- "$5"
else
    mv -T -- "$5" "$1"
fi
rm -f -- "$4"
sync -f -- "$1" 2> /dev/null || sync"#;

/// RELEASES LINKS…: where the links lead to, then the folders of ours with their labels.
pub(super) const LABELS: &str = r#"
releases=$1
shift
for link; do printf '%s\0' "$(readlink -- "$link")"; done
cd -- "$releases" 2> /dev/null || exit 3
for label in .*.json; do
    [ -f "$label" ] || continue
    printf '%s\0' "$label"
    head -c 1048576 -- "$label"
    printf '\0'
done"#;

/// RELEASES NAME LINKS…: a folder that goes, unless a link leads there by now.
pub(super) const REMOVE: &str = r#"
cd -- "$1" || exit 1
name=$2
shift 2
for link; do if [ "$link" -ef "$name" ]; then exit 0; fi; done
rm -rf -- ".old-$name"
if [ -e "$name" ]; then mv -T -- "$name" ".old-$name" || exit 1; fi
rm -f -- ".$name.json"
rm -rf -- ".old-$name""#;

/// RELEASES FILES…: files that go, with what was begun among the releases long ago and never finished.
pub(super) const TIDY: &str = r#"
cd -- "$1" || exit 1
shift
rm -f -- "$@"
find . -mindepth 1 -maxdepth 1 \( -name '.new-*' -o -name '.old-*' -o -name '.*.json.new' \) -mmin +1440 \
    -exec rm -rf -- {} +"#;

/// NOTE ITS-TEXT VARIABLES ITS-TEXT: what a way back puts into their places.
pub(super) const KEEP: &str = r#"
set -e
printf '%s' "$2" > "$1.new"
printf '%s' "$4" > "$3.new"
chmod 644 -- "$1.new" "$3.new"
sync -- "$1.new" "$3.new" 2> /dev/null || sync
mv -fT -- "$1.new" "$1"
mv -fT -- "$3.new" "$3"
sync -- "${1%/*}" 2> /dev/null || sync"#;

/// What another host may have its tools from.
#[cfg(test)]
pub(super) mod tools {
    use std::ffi::OsString;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;
    use std::process::Command;

    /// What a release needs to get to a host.
    const TOOLS: &str = "chmod dd find head ln mkdir mv readlink rm sh sha256sum sync tar true wc";

    /// A set of tools.
    pub struct Tools {
        pub name: &'static str,
        /// The search path that finds nothing else.
        pub path: OsString,
        _folder: Option<tempfile::TempDir>,
    }

    impl Tools {
        pub fn sh(&self, text: &str) -> Command {
            let mut command = Command::new("sh");
            command.args(["-c", text, "sh"]).env("PATH", &self.path);
            command
        }

        /// This machine's own, as if that one had never been installed.
        pub fn without(missing: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = std::env::var_os("PATH").unwrap();
            for tool in TOOLS.split(' ').filter(|tool| *tool != missing) {
                let mut found = std::env::split_paths(&path).map(|folder| folder.join(tool));
                let found = found.find(|path| path.is_file()).unwrap_or_else(|| panic!("{tool}"));
                symlink(found, folder.path().join(tool)).unwrap();
            }
            Self { name: "some", path: folder.path().into(), _folder: Some(folder) }
        }

        pub fn busybox() -> Self {
            let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
            let busybox = busybox.into_iter().find(|path| path.is_file());
            let busybox = busybox.expect("busybox: run `cargo xtask test` to install it");
            let folder = tempfile::tempdir().unwrap();
            std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
            let list = Command::new(busybox).arg("--list").output().unwrap();
            for applet in String::from_utf8(list.stdout).unwrap().lines() {
                symlink(busybox, folder.path().join(applet)).unwrap();
            }
            Self { name: "busybox", path: folder.path().into(), _folder: Some(folder) }
        }
    }

    /// This machine's own, and those of busybox.
    pub fn all() -> [Tools; 2] {
        let path = std::env::var_os("PATH").unwrap();
        [Tools { name: "own", path, _folder: None }, Tools::busybox()]
    }
}
