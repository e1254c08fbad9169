//! Changes through the API reach the file, its comments survive, and flash is spared.
