//! The control port, as a script sees it.

use std::net::SocketAddr;

use kafscale_log::store::ObjectStore;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::{body, name, server, store, unknown};

/// Status and JSON of one request.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let len = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn faults_are_set_and_requests_are_counted() {
    let server = server().await;
    let store = store(&server);
    let control = server.control_address();
    let set = r#"{"put": {"latency": {"fixed_ms": 1}, "plan": ["none", "lost_reply"]}}"#;
    let (status, now) = ask(control, "PUT", "/faults", set).await;
    assert_eq!((status, &now["put"]["plan"]), (200, &json!(["none", "lost_reply"])));
    store.put(&name(1), body()).await.unwrap();
    unknown(store.put(&name(2), body()).await);
    store.get(&name(1), 2..5).await.unwrap();
    store.delete(&name(1)).await.unwrap();
    assert_eq!(ask(control, "GET", "/faults", "").await.1["put"]["plan"], json!([]), "a plan is used up");

    let (status, stats) = ask(control, "GET", "/stats", "").await;
    assert_eq!(
        (status, &stats["objects"], &stats["bytes"], &stats["in_flight"]),
        (200, &json!(1), &json!(11), &json!(0))
    );
    let put = &stats["methods"]["put"];
    assert_eq!((&put["requests"], &put["bytes_in"]), (&json!(2), &json!(22)));
    assert_eq!((&put["statuses"], &put["faults"]), (&json!({"200": 1}), &json!({"lost_reply": 1})));
    assert_eq!(stats["methods"]["get"]["bytes_out"], 3);

    let (_, log) = ask(control, "GET", "/log", "").await;
    let log = log.as_array().unwrap();
    let column = |name: &str| log.iter().map(|entry| entry[name].clone()).collect::<Vec<_>>();
    assert_eq!(column("n"), [1, 2, 3, 4]);
    assert_eq!(column("method"), ["put", "put", "get", "delete"]);
    assert_eq!(column("fault"), ["none", "lost_reply", "none", "none"]);
    assert_eq!(column("status"), [json!(200), json!(null), json!(206), json!(204)]);
    assert_eq!(log[2]["range"], "bytes=2-4");
    assert!(log[0]["path"].as_str().unwrap().starts_with("/kafscale/test/"));
    assert_eq!(ask(control, "GET", "/log?after=3", "").await.1.as_array().unwrap().len(), 1);

    ask(control, "DELETE", "/stats", "").await;
    let (_, stats) = ask(control, "GET", "/stats", "").await;
    assert_eq!((&stats["methods"], &stats["objects"]), (&json!({}), &json!(1)), "objects are no counters");
}

#[tokio::test]
async fn what_the_control_port_does_not_understand_changes_nothing() {
    let server = server().await;
    let control = server.control_address();
    ask(control, "PUT", "/faults", r#"{"outage": "hang"}"#).await;
    for (method, path, body, status) in [
        ("PUT", "/faults", "{", 400),
        ("PUT", "/faults", r#"{"get": {"cut": 2}}"#, 400),
        ("PUT", "/faults", r#"{"got": {}}"#, 400),
        ("GET", "/log?after=x", "", 400),
        ("GET", "/", "", 404),
        ("POST", "/stats", "", 404),
    ] {
        let (got, said) = ask(control, method, path, body).await;
        assert!(got == status && !said["error"].as_str().unwrap().is_empty(), "{method} {path}: {got} {said}");
    }
    assert_eq!(ask(control, "GET", "/faults", "").await.1["outage"], "hang");
}
