//! The data directory on the real disk: first start, next start, and everything it refuses.

use std::fs;
use std::path::Path;

use kafscale_broker::config::{DataDir, DataDirError, ObjectsIn};
use kafscale_ports::disk::RealDisk;
use kafscale_ports::random::SystemRandom;

async fn open(path: &Path) -> Result<DataDir, DataDirError> {
    DataDir::open(&RealDisk, &SystemRandom, path, ObjectsIn::Directory).await
}

async fn refusal(path: &Path) -> String {
    open(path).await.err().expect("it is refused").to_string()
}

#[tokio::test]
async fn the_first_start_makes_it_and_the_next_finds_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a/b/data");
    let first = open(&path).await.unwrap();
    let identity = first.identity();
    assert!(identity.cluster != 0 && identity.directory != 0 && identity.cluster != identity.directory);
    assert!(first.journal().is_dir() && first.objects().is_dir());
    let m = refusal(&path).await;
    assert!(m.starts_with(&format!("{} is in use by another broker", path.display())), "{m}");
    drop(first);
    assert_eq!(open(&path).await.unwrap().identity(), identity);
}

#[tokio::test]
async fn an_interrupted_first_start_is_completed() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("lock"), "").unwrap();
    fs::write(root.path().join("identity.tmp"), "kafscale da").unwrap();
    fs::create_dir(root.path().join("lost+found")).unwrap();
    let identity = open(root.path()).await.unwrap().identity();
    fs::remove_dir(root.path().join("objects")).unwrap();
    assert_eq!(open(root.path()).await.unwrap().identity(), identity);
    assert!(root.path().join("objects").is_dir());
}

#[tokio::test]
async fn a_file_or_a_stranger_s_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "something").unwrap();
    let m = refusal(&file).await;
    assert_eq!(m, format!("{} is not a directory: choose another with --data-dir DIR", file.display()));
    let m = refusal(root.path()).await;
    assert!(m.contains("is not empty and not a KafScale data directory (it has file)"), "{m}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "something");
    let m = refusal(&file.join("below")).await;
    assert!(m.starts_with("cannot create"), "{m}");
    // A place in which nothing can be made, and which says "not found" for ever.
    let m = refusal(Path::new("/proc/a/b")).await;
    assert!(m.starts_with("cannot create /proc/a"), "{m}");
}

#[tokio::test]
async fn damage_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    drop(open(root.path()).await.unwrap());
    let identity = root.path().join("identity");
    let whole = fs::read_to_string(&identity).unwrap();
    for damaged in [whole.replace("cluster", "clutter"), whole[..40].to_owned(), String::new()] {
        fs::write(&identity, damaged).unwrap();
        let m = refusal(root.path()).await;
        assert!(m.starts_with(&format!("{} is damaged", identity.display())), "{m}");
    }
    fs::remove_file(&identity).unwrap();
    assert!(refusal(root.path()).await.contains("identity is damaged: it is missing"));
    fs::write(&identity, whole).unwrap();
    fs::remove_dir(root.path().join("journal")).unwrap();
    assert!(refusal(root.path()).await.contains("journal is damaged: it is missing"));
}

#[tokio::test]
async fn a_newer_format_is_refused_with_both_numbers() {
    let root = tempfile::tempdir().unwrap();
    drop(open(root.path()).await.unwrap());
    let body = "kafscale data directory, format 3\n";
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, body.as_bytes());
    fs::write(root.path().join("identity"), format!("{body}crc32c {crc:08x}\n")).unwrap();
    let m = refusal(root.path()).await;
    assert!(m.contains("has format 3, and this release reads formats up to 2"), "{m}");
}

#[tokio::test]
async fn one_whose_objects_are_in_a_bucket_says_so_for_ever() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("journal-alone");
    let first = DataDir::open(&RealDisk, &SystemRandom, &path, ObjectsIn::Bucket).await.unwrap();
    let identity = first.identity();
    assert!(first.journal().is_dir() && !first.objects().exists());
    drop(first);
    let again = open(&path).await.unwrap();
    assert_eq!((again.identity(), identity.objects), (identity, ObjectsIn::Bucket));
    assert!(!again.objects().exists());
}
