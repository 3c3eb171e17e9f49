//! The `tidings` program.

#[global_allocator]
static ALLOCATOR: tidings_malloc::Allocator = tidings_malloc::Allocator;

fn main() -> std::process::ExitCode {
    tidings::cli::main()
}
