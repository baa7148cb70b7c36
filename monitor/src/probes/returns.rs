//! Whether a filter of system calls (seccomp) refuses what the kernel does at the return of a probed function.
//!
//! From Linux 6.11 on the kernel has a program that returns from a probed function make the system call `uretprobe`, on
//! x86-64. Until 6.12.14 and 6.14 a filter that does not know it refuses it, and the program, which cannot go on then, is killed. A child of this
//! process shows which it is: it has such a filter, and returns.

use std::{
    fs::{self, File},
    io::{Error, ErrorKind, Result as IoResult},
    mem,
    os::fd::AsFd as _,
    ptr,
};

use super::perf::{Uprobes, Where};

/// Kernel: arch/x86/entry/syscalls/syscall_64.tbl. Other machines have no such system call.
#[cfg(target_arch = "x86_64")]
const URETPROBE: Option<u32> = Some(335);
#[cfg(not(target_arch = "x86_64"))]
const URETPROBE: Option<u32> = None;

/// How the child says that its filter refused the system call.
const REFUSED: i32 = 1;
/// How it says that there was no trial.
const UNTRIED: i32 = 2;

/// Whether returning from a probed function may kill a program that has a filter of system calls.
///
/// # Errors
///
/// When it cannot be tried.
pub(crate) fn are_filtered() -> IoResult<bool> {
    let Some(number) = URETPROBE else {
        return Ok(false);
    };
    let probed: extern "C" fn() = returns_probed;
    let offset = offset_of(probed as usize as u64)?;
    let file = File::open("/proc/self/exe")?;
    let uprobes = Uprobes::find().map_err(Error::other)?;
    filter_stops(number, probed, |child| {
        uprobes.open(&Where {
            file: file.as_fd(),
            offset,
            is_return: true,
            process: Some(child),
        })
    })
}

/// The function whose return is probed, in the child alone.
#[inline(never)]
extern "C" fn returns_probed() {
    std::hint::black_box(());
}

/// Where in the file of this program the code at an address is.
fn offset_of(address: u64) -> IoResult<u64> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let found = maps.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let (from, to) = columns.next()?.split_once('-')?;
        let hexadecimal = |text| u64::from_str_radix(text, 16).ok();
        let (from, to) = (hexadecimal(from)?, hexadecimal(to)?);
        let offset = hexadecimal(columns.nth(1)?)?;
        (from..to)
            .contains(&address)
            .then(|| address - from + offset)
    });
    found.ok_or_else(|| ErrorKind::NotFound.into())
}

/// Whether a child whose filter refuses a system call comes back from a function. `prepare` is told of the child before.
fn filter_stops<T>(
    number: u32,
    function: extern "C" fn(),
    prepare: impl FnOnce(u32) -> IoResult<T>,
) -> IoResult<bool> {
    let mut pipe = [0; 2];
    // SAFETY: `pipe` has room for two descriptors; the child makes system calls only, on what is on its stack, and returns to
    // nobody; both descriptors are closed once in each process.
    let (child, go) = unsafe {
        if libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(Error::last_os_error());
        }
        let [wait, go] = pipe;
        match libc::fork() {
            -1 => {
                let error = Error::last_os_error();
                libc::close(wait);
                libc::close(go);
                return Err(error);
            }
            0 => {
                libc::close(go);
                try_return(wait, number, function)
            }
            child => {
                libc::close(wait);
                (child, go)
            }
        }
    };
    let prepared = prepare(child.cast_unsigned());
    let word = u8::from(prepared.is_ok());
    let mut status = 0;
    // SAFETY: writes a byte that is there, without being killed where the child is gone: Rust ignores SIGPIPE; closes a
    // descriptor that nobody else has here; and waits for a child that nobody else waits for.
    let waited = unsafe {
        libc::write(go, ptr::from_ref(&word).cast(), 1);
        libc::close(go);
        libc::waitpid(child, &raw mut status, 0)
    };
    prepared?;
    if waited < 0 {
        return Err(Error::last_os_error());
    }
    judge(status)
}

/// In the child.
///
/// # Safety
///
/// The calling thread is the only one of its process.
unsafe fn try_return(wait: i32, number: u32, function: extern "C" fn()) -> ! {
    let mut word = 0u8;
    // SAFETY: reads a byte to where there is room for it; the handler makes a system call only.
    unsafe {
        libc::read(wait, ptr::from_mut(&mut word).cast(), 1);
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = end_refused as extern "C" fn(i32) as usize;
        libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut());
        if word == 0 || !refuse(number) {
            libc::_exit(UNTRIED);
        }
        function();
        libc::_exit(0)
    }
}

extern "C" fn end_refused(_: i32) {
    // SAFETY: ends the process.
    unsafe { libc::_exit(REFUSED) }
}

/// From now on this system call is a signal, SIGSYS, to the calling thread.
fn refuse(number: u32) -> bool {
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let answer = libc::BPF_RET | libc::BPF_K;
    let filter = [
        // The number comes first in `struct seccomp_data`.
        step(load, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        step(answer, 0, 0, libc::SECCOMP_RET_TRAP),
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program, which outlives the call.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == 0
    }
}

/// What became of the child. A filter that this process had already may have been quicker, with another answer.
fn judge(status: i32) -> IoResult<bool> {
    let killers = [libc::SIGSYS, libc::SIGSEGV, libc::SIGILL, libc::SIGBUS];
    if libc::WIFEXITED(status) {
        match libc::WEXITSTATUS(status) {
            0 => return Ok(false),
            REFUSED => return Ok(true),
            _ => {}
        }
    } else if libc::WIFSIGNALED(status) && killers.contains(&libc::WTERMSIG(status)) {
        return Ok(true);
    }
    Err(Error::other("no filter of system calls could be tried"))
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn asks_for_its_parent() {
        // SAFETY: takes nothing, and cannot fail.
        unsafe { libc::getppid() };
    }

    #[test]
    fn filters_answer_is_seen() {
        let getppid = libc::SYS_getppid as u32;
        let nothing = |_| Ok(());
        assert!(filter_stops(getppid, asks_for_its_parent, nothing).unwrap());
        assert!(!filter_stops(getppid, returns_probed, nothing).unwrap());
        let unprepared = |_| Err::<(), _>(Error::from_raw_os_error(libc::EACCES));
        let error = filter_stops(getppid, returns_probed, unprepared).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    fn code_is_found_in_its_file() {
        let probed: extern "C" fn() = returns_probed;
        let address = probed as usize as u64;
        let offset = offset_of(address).unwrap();
        let program = fs::read("/proc/self/exe").unwrap();
        // SAFETY: a function is longer than its first byte, and code may be read.
        let first = unsafe { *(address as *const u8) };
        assert_eq!(program[offset as usize], first);
        assert!(offset_of(0).is_err());
    }
}
