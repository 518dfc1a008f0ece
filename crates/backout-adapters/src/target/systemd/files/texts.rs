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

/// FOLDER FILES: a listing; the sums of FILES files come in, and the code says whether they are right.
pub(super) const COMPARE: &str = r#"
cd -- "$1" 2> /dev/null || exit 3
# What a program has made there for itself may be closed to us: it does not count, and what counts and is not listed is missing.
find . -mindepth 1 -printf '%y %m %P\0%l\0' 2> /dev/null || :
[ "$2" = 0 ] || exec sha256sum --status -c -"#;

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
    cp -a --remove-destination -T -- "$5" "$1"
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn run(text: &str, args: &[&Path]) -> i32 {
        let mut command = Command::new("sh");
        command.args(["-c", text, "sh"]).args(args);
        command.status().unwrap().code().unwrap()
    }

    #[test]
    fn a_folder_to_which_a_link_leads_by_now_stays() {
        let root = tempfile::tempdir().unwrap();
        let releases = root.path().join("releases");
        let link = root.path().join("current");
        for name in ["live", "old"] {
            std::fs::create_dir_all(releases.join(name)).unwrap();
            std::fs::write(releases.join(format!(".{name}.json")), "{}").unwrap();
        }
        std::os::unix::fs::symlink("releases/live", &link).unwrap();
        let gone = root.path().join("never-there");
        for name in ["live", "old", "missing"] {
            assert_eq!(run(REMOVE, &[&releases, Path::new(name), &gone, &link]), 0, "{name}");
        }
        assert!(releases.join("live").is_dir() && releases.join(".live.json").exists());
        let left = std::fs::read_dir(&releases).unwrap().count();
        assert_eq!(left, 2, "the folder and its label");
    }
}
