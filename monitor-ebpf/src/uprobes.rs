//! The hooks in TLS libraries of OpenSSL's interface.
//!
//! Each entry notes what the call is for; the one hook of all returns looks up what it was. The hooks of returns are
//! attached first, and a call is told from what is left of another by the stack pointer.
//!
//! From Linux 6.13 on the kernel gives a program of this kind a stack that belongs to the CPU, for it runs none of a kprobe
//! inside another. Those of uprobes it does run so: a thread that is in one can be put aside for another thread that
//! gets into one, which then writes over what the first has on that stack. Where the kernel is preemptible, as every one is from
//! 7.0 on, each program must therefore say [`keep_to_own_stack`].

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_probe_read_user, generated::bpf_get_current_pid_tgid},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use monitor_ebpf::{session::Session, socket::Direction};

use crate::{
    binding::{self, Written},
    maps::{TLS_CALLS, TLS_NOWHERE},
    packet::now_ns,
    plaintext,
    sessions::{self, Call, Object, follows_tls, session},
};

/// What a call is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read = 0,
    Write = 1,
    Handshake = 2,
}

/// `int SSL_read(SSL *, void *, int)`
#[uprobe]
fn tls_read(context: ProbeContext) -> u32 {
    enter(&context, Purpose::Read, false)
}

/// `int SSL_read_ex(SSL *, void *, size_t, size_t *)`
#[uprobe]
fn tls_read_ex(context: ProbeContext) -> u32 {
    enter(&context, Purpose::Read, true)
}

/// `int SSL_write(SSL *, const void *, int)`
#[uprobe]
fn tls_write(context: ProbeContext) -> u32 {
    enter(&context, Purpose::Write, false)
}

/// `int SSL_write_ex(SSL *, const void *, size_t, size_t *)`
#[uprobe]
fn tls_write_ex(context: ProbeContext) -> u32 {
    enter(&context, Purpose::Write, true)
}

/// `int SSL_do_handshake(SSL *)`
#[uprobe]
fn tls_do_handshake(context: ProbeContext) -> u32 {
    enter(&context, Purpose::Handshake, false)
}

/// The return of each of these.
#[uretprobe]
fn tls_returned(context: RetProbeContext) -> u32 {
    keep_to_own_stack(&context);
    // SAFETY: takes nothing, touches nothing.
    let thread = unsafe { bpf_get_current_pid_tgid() };
    let Some(call) = TLS_CALLS.get_ptr(thread) else {
        return 0;
    };
    // SAFETY: an entry of the table, which this thread alone writes.
    let call = unsafe { *call };
    // SAFETY: the registers of the thread. On x86-64 the return took its address off the stack.
    let stack = unsafe { stack_pointer(context.regs) };
    if stack.wrapping_sub(call.stack) > 8 {
        return 0;
    }
    let _ = TLS_CALLS.remove(thread);
    if call.purpose == Purpose::Handshake as u64 {
        return 0;
    }
    let returned: i32 = context.ret();
    let mut length = 0;
    let mut is_missed = false;
    if returned > 0 && call.count_at == 0 {
        length = returned as u32;
    } else if returned > 0 {
        // SAFETY: the helper refuses what cannot be read.
        match unsafe { bpf_probe_read_user(call.count_at as *const u64) } {
            Ok(count) => length = count as u32,
            Err(_) => is_missed = true,
        }
    }
    let is_read = call.purpose == Purpose::Read as u64;
    let direction = if is_read {
        Direction::Ingress
    } else {
        Direction::Egress
    };
    let mut when_ns = now_ns();
    let Some(session) = session(call.session) else {
        return 0;
    };
    // SAFETY: an entry of the table; see `sessions::session`.
    unsafe {
        if is_read {
            let wire = &raw mut (*session).wire;
            (*wire).end_reading(call.began_ns, when_ns, length == 0);
            when_ns = (*wire).came_in(length, call.buffer_length, when_ns);
        } else {
            (*session).wire.end_writing(call.began_ns);
            if (*session).wire.passed_ns() != 0 {
                when_ns = (*session).wire.passed_ns();
            }
        }
        if is_missed {
            (*session).miss(direction);
        }
    }
    if length != 0 {
        plaintext::observe(call.session, call.buffer, length, direction, when_ns);
    }
    0
}

/// `int BIO_write(BIO *, const void *, int)`
#[uprobe]
fn tls_bio_write(context: ProbeContext) -> u32 {
    keep_to_own_stack(&context);
    // SAFETY: takes nothing, touches nothing.
    let thread = unsafe { bpf_get_current_pid_tgid() };
    let Some(call) = TLS_CALLS.get_ptr_mut(thread) else {
        return 0;
    };
    // SAFETY: an entry of the table, which this thread alone writes; the registers of the thread.
    unsafe {
        // What is left of a call that never returned.
        if stack_pointer(context.regs) >= (*call).stack {
            return 0;
        }
        let (Some(outlet), Some(data), Some(length)) =
            (context.arg(0), context.arg(1), context.arg::<u32>(2))
        else {
            return 0;
        };
        if length == 0 || length > i32::MAX as u32 {
            return 0;
        }
        let in_buffer = (*call).purpose == Purpose::Write as u64
            && u64::wrapping_sub(data, (*call).buffer) < (*call).buffer_length;
        let written = Written {
            outlet,
            data,
            length,
            is_opaque: in_buffer,
        };
        (*call).session = binding::note_written((*call).session, &written);
    }
    0
}

/// `void SSL_free(SSL *)`
#[uprobe]
fn tls_free(context: ProbeContext) -> u32 {
    keep_to_own_stack(&context);
    if let Some(address) = context.arg(0) {
        sessions::free(Object {
            address,
            process: process(),
        });
    }
    0
}

#[inline(always)]
fn enter(context: &ProbeContext, purpose: Purpose, tells_count: bool) -> u32 {
    keep_to_own_stack(context);
    let Some(object) = context.arg::<u64>(0) else {
        return 0;
    };
    let argument = |number| context.arg::<u64>(number).unwrap_or(0);
    let number = sessions::number_of(Object {
        address: object,
        process: process(),
    });
    // SAFETY: takes nothing, touches nothing.
    let thread = unsafe { bpf_get_current_pid_tgid() };
    if number == 0 {
        let _ = TLS_CALLS.remove(thread);
        return 0;
    }
    // SAFETY: the registers of the thread.
    let stack = unsafe { stack_pointer(context.regs) };
    let takes_int = !tells_count;
    let call = Call {
        session: number,
        buffer: argument(1),
        buffer_length: if takes_int {
            argument(2) & u64::from(u32::MAX)
        } else {
            argument(2)
        },
        count_at: if tells_count { argument(3) } else { 0 },
        stack,
        began_ns: now_ns(),
        purpose: purpose as u64,
    };
    // One of these functions may be made of another, whose return tells all.
    let is_inside = TLS_CALLS.get_ptr(thread).is_some_and(|outer| {
        // SAFETY: an entry of the table, which this thread alone writes.
        unsafe { (*outer).session == number && (*outer).stack > stack }
    });
    let is_noted = TLS_CALLS.insert(thread, call, 0).is_ok();
    if let Some(session) = session(number) {
        // SAFETY: an entry of the table; see `sessions::session`.
        unsafe { begin(session, purpose, is_inside, is_noted) };
    }
    0
}

/// A call begins in a session. What one gave or took whose return was not seen, or will not be, is missed.
#[inline(always)]
unsafe fn begin(session: *mut Session, purpose: Purpose, is_inside: bool, is_noted: bool) {
    // SAFETY: the caller's.
    unsafe {
        let (is_first, direction) = match purpose {
            Purpose::Read => ((*session).wire.begin_reading(), Direction::Ingress),
            Purpose::Write => ((*session).wire.begin_writing(), Direction::Egress),
            Purpose::Handshake => return,
        };
        if !is_noted || !(is_first || is_inside) {
            (*session).miss(direction);
        }
    }
}

/// Keeps the program on the stack of its thread: one with a tail call has no other. The call is never made: that TLS is
/// followed is a constant when the kernel takes the program, which then leaves the call out.
#[inline(always)]
fn keep_to_own_stack(context: &impl EbpfContext) {
    if !follows_tls() {
        // SAFETY: there is no program to go on with.
        unsafe { TLS_NOWHERE.tail_call(context, 0) };
    }
}

#[inline(always)]
fn process() -> u64 {
    // SAFETY: takes nothing, touches nothing.
    unsafe { bpf_get_current_pid_tgid() >> 32 }
}

#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
unsafe fn stack_pointer(registers: *const aya_ebpf::bindings::pt_regs) -> u64 {
    // SAFETY: the caller's.
    unsafe { (*registers).rsp }
}

#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
unsafe fn stack_pointer(registers: *const aya_ebpf::bindings::pt_regs) -> u64 {
    // SAFETY: the caller's.
    unsafe { (*registers).sp }
}
