//! A broker: what is joined to what, and in which order it starts and stops.
//!
//! ```text
//! data directory ─▶ journal ─▶ replica ─▶ writer, reader ─▶ API ─▶ Kafka listener
//!                                                                 HTTP listener
//! ```
//!
//! Start: nothing listens to clients before the fold has passed this session's opening. Stop (SIGTERM): no new
//! connections, no new requests; what was taken in is flushed, committed and answered; then the session ends in the
//! journal. A kill at any moment loses nothing: the same start follows.
