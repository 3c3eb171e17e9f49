//! The `tidings` program.

#[global_allocator]
static ALLOCATOR: tidings_allocator::Allocator = tidings_allocator::Allocator;

fn main() -> std::process::ExitCode {
    tidings::cli::main()
}
