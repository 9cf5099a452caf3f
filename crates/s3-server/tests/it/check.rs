//! The check at the start of a broker: passes a good server, finds each bad one, and leaves nothing behind.

use kafscale_log::store::s3::{CheckError, S3Options, Secret};
use kafscale_s3_server::{Fault, Faults, Outage, Server};

use crate::world::{open, options, server, store};

/// What the check says with these faults.
async fn finds(server: &Server, faults: Faults) -> CheckError {
    server.set_faults(faults).unwrap();
    let found = store(server).check().await.unwrap_err();
    server.set_faults(Faults::default()).unwrap();
    found
}

#[tokio::test]
async fn a_good_server_passes_and_nothing_stays() {
    let server = server().await;
    for _ in 0..3 {
        store(&server).check().await.unwrap();
        open(S3Options { url: "s3://kafscale".to_owned(), ..options(server.address(), "") }).check().await.unwrap();
    }
    assert_eq!(server.stats().objects, 0);
}

#[tokio::test]
async fn each_missing_permission_is_named() {
    for permission in ["s3:PutObject", "s3:GetObject", "s3:DeleteObject", "s3:ListBucket"] {
        let server = server().await;
        let found = finds(&server, Faults { deny: vec![permission.to_owned()], ..Faults::default() }).await;
        let text = found.to_string();
        assert!(matches!(found, CheckError::Refused { .. }) && !found.may_pass_later(), "{text}");
        assert!(
            text.contains(&format!("allow {permission} on this bucket")) && text.contains("s3://kafscale/test/probe-"),
            "{text}"
        );
        assert_eq!(server.stats().objects, usize::from(permission == "s3:DeleteObject"), "without {permission}");
    }
}

#[tokio::test]
async fn a_server_that_overwrites_is_found() {
    let server = server().await;
    let found = finds(&server, Faults { ignore_conditions: true, ..Faults::default() }).await;
    assert!(matches!(found, CheckError::Unsuitable { .. }) && found.to_string().contains("If-None-Match"), "{found}");
    assert_eq!(server.stats().objects, 0);
}

#[tokio::test]
async fn wrong_clocks_are_found() {
    let server = server().await;
    let minutes = |minutes: i64| Faults { clock_ahead_ms: minutes * 60_000, ..Faults::default() };
    for ahead in [-10_000, -16, -6, 6, 16, 10_000] {
        let found = finds(&server, minutes(ahead)).await;
        let CheckError::Clock { seconds, .. } = &found else { panic!("{found}") };
        assert!(seconds.abs_diff(ahead.unsigned_abs() * 60) <= 30, "{found}");
        assert_eq!(server.stats().objects, 0);
    }
    for ahead in [-4, 0, 4] {
        server.set_faults(minutes(ahead)).unwrap();
        store(&server).check().await.unwrap();
    }
}

#[tokio::test]
async fn what_may_pass_is_told_from_what_must_be_corrected() {
    let server = server().await;
    let nobody = open(options("127.0.0.1:1".parse().unwrap(), "test"));
    let found = nobody.check().await.unwrap_err();
    assert!(found.may_pass_later() && found.to_string().contains("http://127.0.0.1:1"), "{found}");
    let found = finds(&server, Faults { outage: Outage::Unavailable, ..Faults::default() }).await;
    assert!(matches!(found, CheckError::Unwell { .. }) && found.may_pass_later(), "{found}");
    let found = finds(&server, Faults { outage: Outage::Cut, ..Faults::default() }).await;
    assert!(matches!(found, CheckError::Unreachable { .. }) && found.may_pass_later(), "{found}");
    let wrong = |change: fn(&mut S3Options)| {
        let mut options = options(server.address(), "test");
        change(&mut options);
        open(options)
    };
    for (store, expected) in [
        (wrong(|o| o.url = "s3://elsewhere".to_owned()), "create the bucket"),
        (wrong(|o| o.secret_key = Some(Secret::new("wrong"))), "the secret key is not the access key's"),
        (wrong(|o| o.access_key = Some("wrong".to_owned())), "the server does not know the access key"),
    ] {
        let found = store.check().await.unwrap_err();
        assert!(!found.may_pass_later() && found.to_string().contains(expected), "{found}");
    }
}

#[tokio::test]
async fn a_probe_is_removed_when_the_server_fails_half_way() {
    let server = server().await;
    let mut faults = Faults::default();
    faults.put.plan.extend([Fault::None, Fault::Error]);
    assert!(matches!(finds(&server, faults).await, CheckError::Unwell { .. }));
    assert_eq!(server.stats().objects, 0);
    let mut faults = Faults::default();
    faults.get.plan.extend([Fault::Cut]);
    assert!(finds(&server, faults).await.may_pass_later());
    assert_eq!(server.stats().objects, 0);
}
