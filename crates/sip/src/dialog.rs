//! Dialog state of one side: tags, sequence numbers, route set, remote target; it sends nothing itself.
