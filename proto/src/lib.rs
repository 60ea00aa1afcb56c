//! The control service of mcpd, and its conversion to and from the words of `mcpd-common`.
