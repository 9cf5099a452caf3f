//! Kafka requests: how they end, what they take, what they weigh.

use std::time::Duration;

use kafscale_wire::{Api, ErrorCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

use super::{Registration, seconds};

/// Kafka's name of an API key; every key that the codec does not know is `other`, so that a client cannot make labels.
pub(crate) fn api_name(key: i16) -> &'static str {
    Api::of(key).map_or("other", |api| api.name)
}

/// Kafka requests.
pub struct RequestMetrics {
    finished: Family<RequestLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    slow: Family<ApiLabel, Counter>,
    seconds: Family<ApiLabel, Histogram>,
    received_bytes: Family<ApiLabel, Counter>,
    sent_bytes: Family<ApiLabel, Counter>,
}

impl RequestMetrics {
    pub(super) fn new(r: &mut Registration) -> Self {
        Self {
            finished: r.add("kafscale_requests_total", Family::default()),
            errors: r.add("kafscale_answer_errors_total", Family::default()),
            slow: r.add("kafscale_slow_requests_total", Family::default()),
            seconds: r.add("kafscale_request_seconds", Family::new_with_constructor(seconds)),
            received_bytes: r.add("kafscale_request_bytes_total", Family::default()),
            sent_bytes: r.add("kafscale_response_bytes_total", Family::default()),
        }
    }

    /// Counts a request's arrival, by its bytes.
    pub fn received(&self, api_key: i16, bytes: usize) {
        self.received_bytes.get_or_create(&ApiLabel::of(api_key)).inc_by(bytes as u64);
    }

    /// Counts a request's end.
    pub fn finished(&self, api_key: i16, outcome: &'static str) {
        self.finished.get_or_create(&RequestLabels { api: api_name(api_key), outcome }).inc();
    }

    /// Counts an error code in an answer.
    pub fn error(&self, api_key: i16, code: i16) {
        let error = ErrorCode::of(code).map_or("other", ErrorCode::name);
        self.errors.get_or_create(&ErrorLabels { api: api_name(api_key), error }).inc();
    }

    /// Counts a slow request.
    pub fn slow(&self, api_key: i16) {
        self.slow.get_or_create(&ApiLabel::of(api_key)).inc();
    }

    /// Records that an answer was written: the time from its request's arrival, and its bytes.
    pub fn written(&self, api_key: i16, time: Duration, bytes: usize) {
        let label = ApiLabel::of(api_key);
        self.seconds.get_or_create(&label).observe(time.as_secs_f64());
        self.sent_bytes.get_or_create(&label).inc_by(bytes as u64);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiLabel {
    api: &'static str,
}

impl ApiLabel {
    fn of(api_key: i16) -> Self {
        Self { api: api_name(api_key) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    api: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    api: &'static str,
    error: &'static str,
}
