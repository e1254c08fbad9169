//! The daemon `ladekern`: everything is in the library.

fn main() -> std::process::ExitCode {
    ladekern::cli::main()
}
