//! The codec alone: hostile bytes, and what the oracle cannot tell.
