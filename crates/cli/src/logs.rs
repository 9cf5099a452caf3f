//! Structured logs to standard error, panics among them. Which lines are written can be changed while the process runs.

use std::backtrace::Backtrace;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use kafscale_broker::config::{Log, LogFilter, LogFormat, LogLevel};
use kafscale_broker::http::LogControl;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Starts them; the returned value changes them. Colour only on a terminal.
pub(crate) fn start(log: Log) -> Arc<dyn LogControl> {
    let (filter, handle) = reload::Layer::new(targets(&log.filter));
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let lines = match log.format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    // A request that panics ends its connection and not the process; where it happened is only known here.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(%panic, backtrace = %Backtrace::force_capture(), "a task panicked: this is a bug of KafScale");
    }));
    Arc::new(Control { handle, filter: Mutex::new(log.filter) })
}

struct Control {
    handle: reload::Handle<Targets, Registry>,
    filter: Mutex<LogFilter>,
}

impl LogControl for Control {
    fn filter(&self) -> LogFilter {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, filter: LogFilter) {
        let mut current = self.filter.lock().unwrap_or_else(PoisonError::into_inner);
        // It fails when the subscriber is gone, which lives as long as the process.
        if self.handle.reload(targets(&filter)).is_ok() {
            *current = filter;
        }
    }
}

fn targets(filter: &LogFilter) -> Targets {
    let modules = filter.modules.iter().map(|(module, of)| (module.as_str(), level(*of)));
    Targets::new().with_default(level(filter.level)).with_targets(modules)
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
