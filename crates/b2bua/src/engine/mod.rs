//! The engine: one value that owns all signalling state of its shard.
