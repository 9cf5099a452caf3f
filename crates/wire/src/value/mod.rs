//! The values that messages are made of beside numbers: text, ids and records.
//!
//! Owns their types; how they are written is in `decode` and `encode`.

mod records;
mod text;
mod uuid;

pub use records::Records;
pub use text::Text;
pub use uuid::Uuid;
