//! Config files on the real disk.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;

use async_trait::async_trait;
use backout_adapters::data::LocalConfigFiles;
use backout_core::model::FileKind;
use backout_core::ports::{ConfigFiles, ErrorClass};
use backout_testkit::config_files_suite::{ConfigFilesBench, check_config_files};

use crate::world::World;

struct Disk(World);

#[async_trait]
impl ConfigFilesBench for Disk {
    fn files(&self) -> Arc<dyn ConfigFiles> {
        Arc::new(LocalConfigFiles::new(self.0.folder()))
    }
    async fn put(&self, path: &str, bytes: &[u8], mode: u32) {
        let path = self.0.write(path, "");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    async fn link(&self, path: &str, target: &str) {
        symlink(target, self.0.folder().join(path)).unwrap();
    }
}

#[tokio::test]
async fn the_disk_obeys_the_suite() {
    check_config_files(&Disk(World::new())).await;
}

#[tokio::test]
async fn links_that_lead_outside_are_not_written_through() {
    let world = World::new();
    let outside = tempfile::tempdir().unwrap();
    world.write("app.env", "A=1\n");
    symlink(outside.path(), world.folder().join("etc")).unwrap();
    let files = LocalConfigFiles::new(world.folder());
    let mut file = files.read_one("app.env").await.unwrap().unwrap();
    file.meta.path = "etc/app.env".to_owned();
    for error in
        [
            files.write(&file).await.unwrap_err(),
            files.remove("etc/app.env").await.unwrap_err(),
            files.read_one("etc/app.env").await.unwrap_err(),
            files.read(&["etc/*".to_owned()]).await.err().unwrap_or_else(|| {
                backout_core::ports::AdapterError::permanent("out of the folder")
            }),
        ]
    {
        assert!(
            error.class == ErrorClass::Permanent && error.to_string().contains("out of the folder"),
            "{error}"
        );
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_link_is_put_back_as_link_and_its_target_is_left_alone() {
    let world = World::new();
    world.write("real.env", "REAL=1\n");
    symlink("real.env", world.folder().join("app.env")).unwrap();
    let files = LocalConfigFiles::new(world.folder());
    let link = files.read_one("app.env").await.unwrap().unwrap();
    std::fs::remove_file(world.folder().join("app.env")).unwrap();
    world.write("app.env", "a plain file\n");
    files.write(&link).await.unwrap();
    assert_eq!(
        std::fs::read_link(world.folder().join("app.env")).unwrap().to_str(),
        Some("real.env")
    );
    let mut plain = link.clone();
    plain.meta.kind = FileKind::File { blob: String::new(), size: 2 };
    plain.meta.mode = 0o640;
    plain.bytes = b"x\n".to_vec();
    files.write(&plain).await.unwrap();
    assert!(!world.folder().join("app.env").is_symlink(), "the link is replaced");
    assert_eq!(world.read("real.env"), "REAL=1\n", "and not written through");
}

#[tokio::test]
async fn a_lost_folder_is_made_again_and_a_folder_in_the_way_is_named() {
    let world = World::new();
    world.write("config/deep/app.env", "A=1\n");
    let files = LocalConfigFiles::new(world.folder());
    let file = files.read_one("config/deep/app.env").await.unwrap().unwrap();
    std::fs::remove_dir_all(world.folder().join("config")).unwrap();
    files.write(&file).await.unwrap();
    assert_eq!(world.read("config/deep/app.env"), "A=1\n");
    files.remove("config/deep/app.env").await.unwrap();
    world.write("config/deep/app.env/inner", "");
    let error = files.write(&file).await.unwrap_err();
    assert!(
        error.class == ErrorClass::Permanent && error.to_string().contains("config/deep/app.env"),
        "{error}"
    );
    assert_eq!(
        std::fs::read_dir(world.folder().join("config/deep")).unwrap().count(),
        1,
        "nothing half-written stays"
    );
}

#[tokio::test]
async fn what_is_as_wanted_is_not_touched() {
    let world = World::new();
    let path = world.write("app.env", "A=1\n");
    let files = LocalConfigFiles::new(world.folder());
    let file = files.read_one("app.env").await.unwrap().unwrap();
    let before = std::fs::metadata(&path).unwrap();
    files.write(&file).await.unwrap();
    let after = std::fs::metadata(&path).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
}

#[tokio::test]
async fn large_and_special_files_are_refused_by_name() {
    let world = World::new();
    let path = world.write("huge", "");
    std::fs::File::options().write(true).open(path).unwrap().set_len((10 << 20) + 1).unwrap();
    let files = LocalConfigFiles::new(world.folder());
    let error = files.read(&["huge".to_owned()]).await.unwrap_err();
    assert!(
        error.class == ErrorClass::Permanent && error.to_string().contains("`huge`"),
        "{error}"
    );
    let socket = std::os::unix::net::UnixListener::bind(world.folder().join("socket")).unwrap();
    files.read_one("socket").await.unwrap_err();
    drop(socket);
    std::fs::create_dir(world.folder().join("dir")).unwrap();
    let error = files.read(&["dir".to_owned()]).await.unwrap_err();
    assert!(error.to_string().contains("`dir/*`"), "{error}");
}

#[tokio::test]
async fn owners_are_restored_where_this_user_may() {
    let world = World::new();
    let path = world.write("app.env", "A=1\n");
    let files = LocalConfigFiles::new(world.folder());
    let mut file = files.read_one("app.env").await.unwrap().unwrap();
    file.meta.uid += 1234;
    let result = files.write(&file).await;
    if rustix::process::geteuid().is_root() {
        result.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().uid(), file.meta.uid);
    } else {
        assert_eq!(result.unwrap_err().class, ErrorClass::Permanent);
        assert_eq!(world.read("app.env"), "A=1\n");
    }
}

#[tokio::test]
async fn security_labels_are_kept_where_the_file_system_has_them() {
    use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
    const NAME: &str = "security.selinux";
    const LABEL: &str = "system_u:object_r:etc_t:s0";
    let world = World::new();
    let path = world.write("app.env", "A=1\n");
    let can = lsetxattr(&path, NAME, format!("{LABEL}\0").as_bytes(), XattrFlags::empty()).is_ok();
    let files = LocalConfigFiles::new(world.folder());
    let file = files.read_one("app.env").await.unwrap().unwrap();
    assert_eq!(file.meta.selinux.as_deref(), can.then_some(LABEL));
    std::fs::remove_file(&path).unwrap();
    files.write(&file).await.unwrap();
    let mut buffer = [0_u8; 100];
    let found =
        lgetxattr(&path, NAME, &mut buffer[..]).ok().map(|length| buffer[..length].to_vec());
    assert_eq!(found, can.then(|| format!("{LABEL}\0").into_bytes()));
}
