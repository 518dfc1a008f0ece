//! The same texts with the tools of most systems and with those of busybox.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{Permissions, create_dir, create_dir_all, read, read_link, remove_file, write};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::SystemTime;

use backout_core::ids::{Slot, hex};
use backout_core::ports::ErrorClass;
use backout_testkit::fixtures::{step_cx, unit};
use sha2::{Digest as _, Sha256};

use super::remote::{MISSING, *};
use super::texts::tools::{Tools, all};
use super::texts::*;
use super::*;
use crate::host::{LocalHost, LocalOptions};
use crate::target::systemd::folders::Label;
use crate::target::systemd::pieces::Piece;

/// To root nothing is closed.
const NOBODY: u32 = 65534;

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A host that has these tools and no others.
struct There {
    tools: Tools,
    root: tempfile::TempDir,
    files: RemoteFiles,
}

impl There {
    fn with(tools: Tools) -> Self {
        let root = tempfile::tempdir().unwrap();
        let options = LocalOptions {
            folder: root.path().to_owned(),
            state_dir: root.path().join("state"),
            env: vec![("PATH".into(), tools.path.clone())],
        };
        let files = RemoteFiles { host: Arc::new(LocalHost::new(options)) };
        Self { tools, root, files }
    }

    fn each() -> [Self; 2] {
        all().map(Self::with)
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(path)
    }

    /// A release with all that a name and a link may be.
    fn release(&self) -> Layout {
        let kept = self.at("kept");
        for folder in ["lib/deep", "empty", "it's \"odd\"\n"] {
            create_dir_all(kept.join(folder)).unwrap();
        }
        write(kept.join("serve"), "#!/bin/sh\n").unwrap();
        mode(&kept.join("serve"), 0o700);
        let long = format!("lib/{}", "l".repeat(200));
        let names = ["lib/deep/data", "-x", "*", "$HOME `x`", &long, "a\\b", "\\", "cr\r", "%b\n"];
        for name in names.iter().chain(&["it's \"odd\"\n/a\\n\nb", " two  spaces "]) {
            write(kept.join(name), format!("of {name}")).unwrap();
        }
        write(kept.join(OsStr::from_bytes(b"\xff\\\xfe")), "no text").unwrap();
        let links = ["lib", "lib/deep/data", "/etc/passwd", "../../up", "a\n\n", ".", "- -> `x`"];
        for (number, text) in links.iter().enumerate() {
            symlink(text, kept.join(format!("link{number}"))).unwrap();
        }
        symlink("x", kept.join("-odd\n")).unwrap();
        Layout {
            pieces: vec![Piece { at: PathBuf::new(), digest: "sha256:1".to_owned() }],
            kept: vec![(kept, PathBuf::new())],
            folder: self.at("releases/one"),
        }
    }

    async fn lay_out(&self, layout: &Layout) {
        let name = self.tools.name;
        self.files.lay_out(layout, &turn()).await.unwrap_or_else(|e| panic!("{name}: {e}"));
    }

    async fn is_whole(&self, layout: &Layout) -> bool {
        self.files.is_whole(layout).await.unwrap()
    }

    /// As a login that may not read what is closed.
    fn compare(&self, folder: &Path, data: &str) -> Option<i32> {
        let mut command = self.tools.sh(COMPARE);
        command.arg(folder).args(["0", "1"]).current_dir("/");
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let line = format!("{}  ./data\n", hex(&Sha256::digest(data)));
        // It hangs up where there is no folder.
        let _ = child.stdin.take().unwrap().write_all(line.as_bytes());
        child.wait().unwrap().code()
    }

    fn place(&self) -> Place {
        let run = self.at("run");
        Place {
            name: "web.service".to_owned(),
            link: run.join("current"),
            variables: run.join("current.env"),
            note: run.join(".current.backout.json"),
            releases: self.at("releases"),
        }
    }
}

fn turn() -> Turn {
    Turn::of(&unit(Slot::A), &step_cx("step"))
}

fn names(folder: &Path) -> BTreeSet<OsString> {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

#[test]
fn what_a_program_has_closed_beside_the_release_keeps_it_from_nothing() {
    for there in There::each() {
        let root = tempfile::tempdir().unwrap();
        mode(root.path(), 0o755);
        let (data, closed) = (root.path().join("data"), root.path().join("closed"));
        write(&data, "data").unwrap();
        mode(&data, 0o644);
        create_dir(&closed).unwrap();
        mode(&closed, if rustix::process::geteuid().is_root() { 0o700 } else { 0 });
        let codes =
            [(root.path(), "data"), (root.path(), "dada"), (&root.path().join("no"), "data")]
                .map(|(folder, data)| there.compare(folder, data));
        mode(&closed, 0o700);
        assert_eq!(codes, [Some(0), Some(1), Some(MISSING)], "{}", there.tools.name);
    }
}

#[tokio::test]
async fn a_release_arrives_whole_with_whatever_tools_the_host_has() {
    for there in There::each() {
        let layout = there.release();
        assert!(!there.is_whole(&layout).await);
        there.lay_out(&layout).await;
        let modes = ["serve", "-x", "lib", ""].map(|name| {
            std::fs::metadata(layout.folder.join(name)).unwrap().permissions().mode() & 0o777
        });
        assert_eq!(modes, [0o555, 0o444, 0o755, 0o755], "{}", there.tools.name);
        assert_eq!(names(&layout.folder), names(&layout.kept[0].0));
        assert_eq!(names(&there.at("releases")), ["one", ".one.json"].map(Into::into).into());
        // What is not of the release does not count.
        create_dir(layout.folder.join("own")).unwrap();
        write(layout.folder.join("lib/own.log"), "own").unwrap();
        symlink("nowhere", layout.folder.join("own link")).unwrap();
        assert!(there.is_whole(&layout).await, "{}", there.tools.name);
    }
}

type Damage = (&'static str, fn(&Path));

/// What programs and people do to a release.
const DAMAGES: [Damage; 15] = [
    ("a file has other bytes", |at| {
        mode(&at.join("serve"), 0o755);
        write(at.join("serve"), "#!/bin/no\n").unwrap();
        mode(&at.join("serve"), 0o555);
    }),
    ("a file with an odd name has other bytes", |at| {
        mode(&at.join("%b\n"), 0o644);
        write(at.join("%b\n"), "of another").unwrap();
        mode(&at.join("%b\n"), 0o444);
    }),
    ("a file is missing", |at| remove_file(at.join("-x")).unwrap()),
    ("a file with an odd name is missing", |at| remove_file(at.join("a\\b")).unwrap()),
    ("a file may be written", |at| mode(&at.join("lib/deep/data"), 0o644)),
    ("a file with an odd name has a mode", |at| mode(&at.join("cr\r"), 0o555)),
    ("a link leads elsewhere", |at| {
        remove_file(at.join("link1")).unwrap();
        symlink("lib/deep/date", at.join("link1")).unwrap();
    }),
    ("a link has lost a line end", |at| {
        remove_file(at.join("link4")).unwrap();
        symlink("a\n", at.join("link4")).unwrap();
    }),
    ("a link is missing", |at| remove_file(at.join("-odd\n")).unwrap()),
    ("a folder is missing", |at| std::fs::remove_dir(at.join("empty")).unwrap()),
    ("a folder stands for a file", |at| {
        remove_file(at.join("*")).unwrap();
        create_dir_all(at.join("*/deep")).unwrap();
        write(at.join("*/deep/data"), "data").unwrap();
    }),
    ("a folder stands for a file with an odd name", |at| {
        remove_file(at.join("it's \"odd\"\n/a\\n\nb")).unwrap();
        create_dir_all(at.join("it's \"odd\"\n/a\\n\nb/deep")).unwrap();
    }),
    ("a folder stands for a link", |at| {
        remove_file(at.join("link0")).unwrap();
        create_dir(at.join("link0")).unwrap();
        write(at.join("link0/data"), "data").unwrap();
    }),
    ("a file stands for a folder", |at| {
        std::fs::remove_dir_all(at.join("lib/deep")).unwrap();
        write(at.join("lib/deep"), "data").unwrap();
    }),
    ("links stand for files and folders", |at| {
        let beside = at.with_file_name("beside");
        std::fs::remove_dir_all(at.join("lib/deep")).unwrap();
        symlink(&beside, at.join("lib/deep")).unwrap();
        for name in ["serve", "-x"] {
            remove_file(at.join(name)).unwrap();
        }
        symlink(beside.join("data"), at.join("serve")).unwrap();
        symlink(&beside, at.join("-x")).unwrap();
    }),
];

#[tokio::test]
async fn what_was_done_to_a_release_is_seen_and_mended_and_the_programs_own_stays() {
    for there in There::each() {
        let (layout, beside) = (there.release(), there.at("releases/beside"));
        there.lay_out(&layout).await;
        create_dir(&beside).unwrap();
        write(beside.join("data"), "another's").unwrap();
        let own = ["lib/own.log", "it's \"odd\"\n/own\n", "own/-deep"];
        create_dir(layout.folder.join("own")).unwrap();
        for name in own {
            write(layout.folder.join(name), name).unwrap();
        }
        for (what, damage) in DAMAGES {
            let told = format!("{}: {what}", there.tools.name);
            damage(&layout.folder);
            assert!(!there.is_whole(&layout).await, "{told}");
            let inode = || layout.folder.metadata().unwrap().ino();
            let before = inode();
            there.lay_out(&layout).await;
            assert!(there.is_whole(&layout).await, "{told}");
            assert_eq!(inode(), before, "{told}");
            for name in own {
                assert_eq!(read(layout.folder.join(name)).unwrap(), name.as_bytes(), "{told}");
            }
            // Nothing was written or removed through a link.
            assert_eq!(names(&beside), ["data"].map(Into::into).into(), "{told}");
            assert_eq!(read(beside.join("data")).unwrap(), b"another's", "{told}");
        }
        let left = ["one", ".one.json", "beside"].map(Into::into);
        assert_eq!(names(&there.at("releases")), left.into());
    }
}

#[tokio::test]
async fn a_link_is_switched_noted_and_left_with_whatever_tools_the_host_has() {
    for there in There::each() {
        let (place, turn, name) = (there.place(), turn(), there.tools.name);
        for release in ["one", "two"] {
            create_dir_all(there.at("releases").join(release)).unwrap();
        }
        let nothing = there.files.look(&place, 0).await.unwrap();
        assert!(nothing.note.is_none() && nothing.link.unwrap().is_none(), "{name}");
        for release in ["one", "two"] {
            let to = there.at("releases").join(release);
            let (note, variables) = (format!("{release}\n").into(), "A=\"$b\\n\"\n".to_owned());
            let point = Point { note, variables, to: Some(to.clone()) };
            there.files.begin(&place, point, &turn).await.unwrap();
            let seen = there.files.look(&place, std::process::id()).await.unwrap();
            assert_eq!(seen.link.unwrap().as_deref(), Some(&*to), "{name}");
            assert_eq!(seen.note.unwrap(), format!("{release}\n").as_bytes(), "{name}");
            assert_eq!(seen.program, std::env::current_exe().ok(), "{name}");
        }
        assert_eq!(names(&there.at("releases/one")).len(), 0, "{name}");
        assert_eq!(read(&place.variables).unwrap(), b"A=\"$b\\n\"\n", "{name}");
        there.files.note(&place, b"later".to_vec(), &turn).await.unwrap();
        assert_eq!(read(&place.note).unwrap(), b"later", "{name}");
        let paths = [&place.note, &there.at("no"), &place.variables].map(|path| word(path));
        let read_there = there.files.definitions(&paths).await.unwrap();
        let bytes: Vec<_> = read_there.into_iter().map(|it| it.map(|it| it.bytes)).collect();
        let wanted = [Some("later"), None, Some("A=\"$b\\n\"\n")];
        assert_eq!(bytes, wanted.map(|text| text.map(|text| text.as_bytes().to_vec())));

        let kept = there.files.keep_back(&place, b"back".to_vec(), "B=1\n".to_owned(), &turn);
        kept.await.unwrap();
        let back = place.back();
        assert_eq!(
            (&*read(&back.0).unwrap(), &*read(&back.1).unwrap()),
            (&b"back"[..], &b"B=1\n"[..])
        );
        there.files.forget(&place, &turn).await.unwrap();
        let left = ["current", "current.env"].map(Into::into);
        assert_eq!(names(&there.at("run")), left.into(), "{name}");

        let old = LinkAfter::Back(there.at("releases/one"));
        there.files.leave(&place, &old, &turn).await.unwrap();
        assert_eq!(read_link(&place.link).unwrap(), there.at("releases/one"), "{name}");
        assert_eq!(names(&there.at("run")), ["current"].map(Into::into).into(), "{name}");
        there.files.leave(&place, &LinkAfter::Removed, &turn).await.unwrap();
        assert_eq!(names(&there.at("run")).len(), 0, "{name}");
    }
}

#[tokio::test]
async fn folders_go_with_what_nobody_needs_and_never_one_to_which_a_link_leads_by_now() {
    for there in There::each() {
        let (place, releases, name) = (there.place(), there.at("releases"), there.tools.name);
        create_dir(there.at("run")).unwrap();
        let label = serde_json::to_string(&Label::of(&there.release().pieces)).unwrap();
        for release in ["live", "old", "new-live"] {
            create_dir_all(releases.join(release).join("deep")).unwrap();
            write(releases.join(format!(".{release}.json")), &label).unwrap();
        }
        create_dir(releases.join("somebody-elses")).unwrap();
        symlink("../releases/live", &place.link).unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(100_000);
        for (begun, is_old) in [(".new-a\n", true), (".old-b", true), (".new-c", false)] {
            let folder = releases.join(begun);
            create_dir_all(folder.join("deep")).unwrap();
            if is_old {
                std::fs::File::open(folder).unwrap().set_modified(long_ago).unwrap();
            }
        }
        write(place.back().0, "back").unwrap();
        // It has come to be what runs after somebody looked.
        let other = there.at("run/other");
        symlink("../releases/new-live", &other).unwrap();
        let args = [word(&releases), "new-live".to_owned(), word(&there.at("no")), word(&other)];
        there.files.must("remove", REMOVE, &args, Some(&turn())).await.unwrap();
        assert!(releases.join(".new-live.json").exists() && releases.join("new-live").exists());
        remove_file(other).unwrap();
        let places = std::slice::from_ref(&place);
        there.files.prune(places, &[], &turn()).await.unwrap();
        let left = ["live", ".live.json", "somebody-elses", ".new-c"].map(Into::into);
        assert_eq!(names(&releases), left.into(), "{name}");
        assert_eq!(names(&there.at("run")), ["current"].map(Into::into).into(), "{name}");
    }
}

#[tokio::test]
async fn a_host_without_a_tool_is_told_so_and_not_that_its_folder_is_in_the_way() {
    for (tool, doing) in [("sha256sum", "compare"), ("find", "compare"), ("tar", "unpack")] {
        let there = There::with(Tools::without(tool));
        let layout = there.release();
        create_dir_all(&layout.folder).unwrap();
        let error = match there.files.is_whole(&layout).await {
            Ok(_) => there.files.lay_out(&layout, &turn()).await.unwrap_err(),
            Err(error) => error,
        };
        let told = format!("{error}");
        assert_eq!(error.class, ErrorClass::Permanent, "{tool}: {told}");
        assert!(told.contains(doing) && told.contains(tool) && told.contains("lacks"), "{told}");
        assert!(error.hint.unwrap().contains("install"), "{tool}");
    }
    let there = There::with(Tools::busybox());
    let text = "mv --no-such-option a b";
    let error = there.files.must("move", text, &[], None).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Permanent, "{error}");
    assert!(error.message.contains("lacks"), "{error}");
}
