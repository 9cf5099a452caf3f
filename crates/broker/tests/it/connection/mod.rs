//! Connections: order, bounds, hostile peers, the end. On a paused clock over pipes, but for [`tcp`].

mod hostile;
mod order;
mod stop;
mod tcp;
