//! The allocator's use of memory.

/// Makes glibc return freed memory to the system. By default it does so only at the end of each thread's heap, and uses
/// that also for large buffers once one has been freed.
///
/// Must be called before the process starts threads. Does nothing with another C library.
pub fn return_freed() {
    #[cfg(target_env = "gnu")]
    {
        const SETTINGS: [(libc::c_int, libc::c_int); 3] = [
            (libc::M_ARENA_MAX, 2),
            // Setting these also keeps glibc from raising them.
            (libc::M_MMAP_THRESHOLD, 64 << 10),
            (libc::M_TRIM_THRESHOLD, 128 << 10),
        ];
        for (parameter, value) in SETTINGS {
            // SAFETY: mallopt takes any parameter and value. It is not safe beside other threads that allocate, and
            // there are none yet.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}
