//! The control port: what is asked of the server itself, and not of S3.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use crate::faults::Faults;
use crate::server::Shared;

/// Faults are a page of text at most.
const MAX_BODY_BYTES: usize = 1 << 20;

pub(crate) async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/stats") => json(&shared.stats()),
        (&Method::DELETE, "/stats") => {
            shared.service.book.lock().clear();
            json(&shared.stats())
        }
        (&Method::GET, "/log") => match after(parts.uri.query().unwrap_or_default()) {
            Some(after) => json(&shared.service.book.lock().log(after)),
            None => error(StatusCode::BAD_REQUEST, "write /log?after=N, where N is a request's number"),
        },
        (&Method::GET, "/faults") => json(&*shared.service.faults.lock()),
        (&Method::PUT, "/faults") => {
            let body = match Limited::new(body, MAX_BODY_BYTES).collect().await {
                Ok(body) => body.to_bytes(),
                Err(why) => return error(StatusCode::BAD_REQUEST, &why.to_string()),
            };
            match serde_json::from_slice::<Faults>(&body) {
                Ok(faults) => match shared.set_faults(faults) {
                    Ok(()) => json(&*shared.service.faults.lock()),
                    Err(why) => error(StatusCode::BAD_REQUEST, &why),
                },
                Err(why) => error(StatusCode::BAD_REQUEST, &why.to_string()),
            }
        }
        (_, path) => error(
            StatusCode::NOT_FOUND,
            &format!(
                "there is no {} {path}; there are GET and DELETE /stats, GET /log?after=N, GET and PUT /faults",
                parts.method
            ),
        ),
    }
}

/// N of `after=N`; 0 without it.
fn after(query: &str) -> Option<u64> {
    if query.is_empty() { Some(0) } else { query.strip_prefix("after=")?.parse().ok() }
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(value).expect("numbers, texts and lists have JSON");
    respond(StatusCode::OK, body)
}

fn error(status: StatusCode, what: &str) -> Response<Full<Bytes>> {
    respond(status, serde_json::json!({ "error": what }).to_string().into_bytes())
}

fn respond(status: StatusCode, mut body: Vec<u8>) -> Response<Full<Bytes>> {
    body.push(b'\n');
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
