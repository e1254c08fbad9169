//! Every key with every wrong type, files that end anywhere, and texts that were made to hurt.
