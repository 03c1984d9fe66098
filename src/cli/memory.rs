//! How the C library hands out memory.

/// What C's `malloc` keeps for itself, of blocks that were given back.
const KEPT: libc::c_int = 1 << 20;
/// From this size on a block is a mapping of its own, and goes back to the system at once.
const LARGE: libc::c_int = 256 << 10;

/// Two arenas instead of eight a core. Records are taken in by one thread and given back by another, so that with many arenas each
/// keeps pages that only it may reuse: resident memory was a third above what is held, at the same speed.
///
/// And limits that stay where they are: left alone, each large block that is given back raises what counts as large, up to 32 MiB. The columns
/// and statements of a few batches then grow inside the heap and leave holes in it, as large as all that is held.
/// To be called before the first thread is started.
pub fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code, reason = "a setting of the C library, which has no safe call for it")]
    // SAFETY: `mallopt` takes two numbers and touches nothing of ours; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}
