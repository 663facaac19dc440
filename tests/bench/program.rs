//! Measuring programs in the kernel: loaded, run and timed, attached.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

use super::bytecode::{Shuffle, Then, answer, call, keep_context, send_out};
use super::lab;

/// linux/bpf.h: commands, types, flags.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const LINK_CREATE: libc::c_long = 28;
const TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const LIVE_FRAMES: u32 = 1 << 1;
/// Programs that call each other must agree on frames in several buffers.
const XDP_HAS_FRAGS: u32 = 1 << 5;
const MAP_ARRAY: u32 = 2;
const MAP_PROGRAMS: u32 = 3;
pub(crate) const XDP_DROP: i32 = 1;
pub(crate) const XDP_PASS: i32 = 2;

/// A loaded program, with what it calls.
#[derive(Debug)]
pub(crate) struct Program {
    fd: OwnedFd,
    /// The kernel empties an array of programs when the last descriptor is closed.
    _calls: Option<OwnedFd>,
}

impl Program {
    /// Answers every frame alike.
    pub(crate) fn answering(action: i32) -> Result<Self> {
        Ok(Self { fd: load(&answer(action), 0)?, _calls: None })
    }

    /// Writes a number into each frame, then does what is next.
    pub(crate) fn shuffling(shuffle: Shuffle, then: Then<'_>) -> Result<Self> {
        let state = map(MAP_ARRAY, 8)?;
        let mut code = vec![keep_context()];
        code.extend(shuffle.code(&state));
        match then {
            Then::Answer(action) => code.extend(answer(action)),
            Then::Program(program) => return Self::calling(&code, program),
        }
        Ok(Self { fd: load(&code, 0)?, _calls: None })
    }

    /// Sends each frame out by an interface, under a number of its own.
    pub(crate) fn sending(shuffle: Shuffle, frame: &[u8], ifindex: u32) -> Result<Self> {
        let state = map(MAP_ARRAY, 8)?;
        let mut code = vec![keep_context()];
        code.extend(shuffle.routed_code(&state, frame));
        code.extend(send_out(ifindex));
        Ok(Self { fd: load(&code, 0)?, _calls: None })
    }

    /// Ends with another program. Both must take frames in several buffers, or neither.
    fn calling(code: &[u64], program: BorrowedFd<'_>) -> Result<Self> {
        let attempt = |flags| -> Result<Self> {
            let programs = map(MAP_PROGRAMS, 4)?;
            let fd = load(&[code, &call(programs.as_raw_fd())].concat(), flags)?;
            update(&programs, &program.as_raw_fd().to_ne_bytes())?;
            Ok(Self { fd, _calls: Some(programs) })
        };
        attempt(0).or_else(|_| attempt(XDP_HAS_FRAGS))
    }

    /// Runs it often; returns the nanoseconds of CPU time that each run took.
    ///
    /// Time of this thread leaves out the two grace periods that a call waits for. What live frames go through on
    /// this CPU is done in the same thread, or by the kernel's own when it lags behind.
    pub(crate) fn run(&self, run: Run<'_>) -> Result<f64> {
        let before = thread_time()? + lab::softirq_time()?;
        test_run(self.fd.as_fd(), run)?;
        let after = thread_time()? + lab::softirq_time()?;
        Ok((after - before) / f64::from(run.times))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A program on an interface, until it is dropped.
pub(crate) struct Link {
    _fd: OwnedFd,
}

impl Link {
    /// Attaches an XDP program in native mode.
    pub(crate) fn xdp(program: BorrowedFd<'_>, ifindex: u32) -> Result<Self> {
        const NATIVE: u32 = 1 << 2;
        let mut attributes = [0u64; 16];
        attributes[0] = pair(program.as_raw_fd().cast_unsigned(), ifindex);
        attributes[1] = pair(ATTACH_XDP, NATIVE);
        Ok(Self { _fd: opened(bpf(LINK_CREATE, &mut attributes)).context("attach a program")? })
    }
}

/// What one call of `BPF_PROG_TEST_RUN` is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) frame: &'a [u8],
    pub(crate) times: u32,
    /// Frames that really travel, in the name of this interface (`BPF_F_TEST_XDP_LIVE_FRAMES`).
    pub(crate) live: Option<u32>,
}

/// Frames of a batch; a veth takes 256 before it must be emptied.
const BATCH: u32 = 64;

fn test_run(program: BorrowedFd<'_>, run: Run<'_>) -> Result<()> {
    let mut output = vec![0u8; run.frame.len() + 256];
    let mut context = [0u32; 6];
    let mut attributes = [0u64; 16];
    attributes[0] = pair(program.as_raw_fd().cast_unsigned(), 0);
    attributes[2] = run.frame.as_ptr() as u64;
    attributes[4] = pair(run.times, 0);
    let room = if let Some(ifindex) = run.live {
        (context[1], context[3]) = (run.frame.len() as u32, ifindex);
        attributes[5] = pair(size_of_val(&context) as u32, 0);
        attributes[6] = context.as_mut_ptr() as u64;
        attributes[8] = pair(LIVE_FRAMES, 0);
        attributes[9] = pair(BATCH, 0);
        0
    } else {
        attributes[3] = output.as_mut_ptr() as u64;
        output.len() as u32
    };
    attributes[1] = pair(run.frame.len() as u32, room);
    done(bpf(PROG_TEST_RUN, &mut attributes)).context("run a program by BPF_PROG_TEST_RUN")
}

/// Nanoseconds that this thread has used.
fn thread_time() -> Result<f64> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

fn load(code: &[u64], flags: u32) -> Result<OwnedFd> {
    let license = c"GPL";
    let mut log = vec![0u8; 65_536];
    let mut attributes = [0u64; 16];
    attributes[0] = pair(TYPE_XDP, code.len() as u32);
    attributes[1] = code.as_ptr() as u64;
    attributes[2] = license.as_ptr() as u64;
    attributes[3] = pair(1, log.len() as u32);
    attributes[4] = log.as_mut_ptr() as u64;
    attributes[5] = pair(0, flags);
    // Arrays take programs of one attach type only, and the product says its own.
    attributes[8] = pair(0, ATTACH_XDP);
    let fd = bpf(PROG_LOAD, &mut attributes);
    let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
    opened(fd).with_context(|| format!("load a program: {}", String::from_utf8_lossy(said)))
}

/// A map of one entry.
fn map(kind: u32, value_bytes: u32) -> Result<OwnedFd> {
    let mut attributes = [0u64; 16];
    (attributes[0], attributes[1]) = (pair(kind, 4), pair(value_bytes, 1));
    opened(bpf(MAP_CREATE, &mut attributes)).context("create a map")
}

/// Writes a map's only entry.
fn update(map: &OwnedFd, value: &[u8]) -> Result<()> {
    let key = 0u32;
    let mut attributes = [0u64; 16];
    attributes[0] = u64::from(map.as_raw_fd().cast_unsigned());
    attributes[1] = (&raw const key) as u64;
    attributes[2] = value.as_ptr() as u64;
    done(bpf(MAP_UPDATE, &mut attributes)).context("write a map")
}

/// Two fields of the attribute union that share eight bytes.
const fn pair(first: u32, second: u32) -> u64 {
    (first as u64) | ((second as u64) << 32)
}

fn bpf(command: libc::c_long, attributes: &mut [u64; 16]) -> libc::c_long {
    // SAFETY: the union is larger than what any of these commands read, and what it points to outlives the call.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) }
}

fn done(result: libc::c_long) -> Result<()> {
    if result < 0 { Err(io::Error::last_os_error().into()) } else { Ok(()) }
}

fn opened(fd: libc::c_long) -> Result<OwnedFd> {
    done(fd)?;
    // SAFETY: the kernel has just returned it, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}
