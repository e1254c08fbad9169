//! Every live field of get_dev_info, changed at its source.
