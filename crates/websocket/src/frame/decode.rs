//! Decodes a client's bytes into messages.

use std::borrow::Cow;

use super::header::{self, Header};
use super::mask::{turned, unmask};
use super::{Message, Opcode, Params, Step, Violation};
use crate::deflate::Inflater;

/// Memory reserved at once for a frame that is announced but has not arrived: beyond it, memory
/// grows with the bytes received, so that many connections that announce large frames cost nothing.
const EAGER_BYTES: usize = 64 * 1024;

/// A data message that has arrived only partly.
#[derive(Debug)]
pub struct Assembly {
    text: bool,
    compressed: bool,
    data: Vec<u8>,
    /// For an uncompressed text: this many bytes are valid UTF-8; after them is at most the
    /// beginning of one character.
    valid: usize,
    /// The frame being received; `None` between fragments.
    frame: Option<OpenFrame>,
}

/// A data frame whose header has been read.
#[derive(Debug, Clone, Copy)]
struct OpenFrame {
    fin: bool,
    /// The masking key, rotated to the next byte.
    key: [u8; 4],
    /// Bytes of the payload that have not arrived.
    missing: usize,
}

/// Takes the message at the front of `buf`, or a part of one, which moves into `assembly`.
/// `Ok(None)`: nothing can be taken before more bytes arrive, and `buf` has at most
/// [`MAX_LEFTOVER`](super::MAX_LEFTOVER) bytes; keep them in front of the next read. Call it again
/// with the bytes after [`Step::consumed`] until it returns `None` or [`Message::Close`]. The taken
/// bytes are unmasked in place.
///
/// `assembly` belongs to the connection and starts as `None`; the inflater may be shared.
///
/// # Errors
///
/// A [`Violation`] of RFC 6455, RFC 7692 or the size limit. Sizes are refused from the header,
/// before the payload arrives; text that is not UTF-8 at the first invalid byte. After an error the
/// connection must be closed, because the frame boundaries are unknown.
pub fn decode<'a>(
    assembly: &mut Option<Box<Assembly>>,
    buf: &'a mut [u8],
    params: &Params,
    inflater: &mut Inflater,
) -> Result<Option<Step<'a>>, Violation> {
    if let Some(frame) = assembly.as_ref().and_then(|started| started.frame) {
        return resume(assembly, frame, buf, 0, params, inflater);
    }
    let Some(header) = header::parse(buf)? else {
        return Ok(None);
    };
    if header.opcode.is_control() {
        return control(&header, buf);
    }
    check_order(assembly.as_deref(), &header, params)?;
    let payload = check_size(assembly.as_deref(), &header, params)?;
    let whole = header.fin && assembly.is_none();
    if whole && buf.len() - header.size >= payload {
        return whole_message(&header, payload, buf, params, inflater);
    }
    if assembly.is_none() {
        *assembly = Some(Box::new(Assembly {
            text: header.opcode == Opcode::Text,
            compressed: header.rsv1,
            data: Vec::new(),
            valid: 0,
            frame: None,
        }));
    }
    let frame = OpenFrame {
        fin: header.fin,
        key: header.key,
        missing: payload,
    };
    resume(assembly, frame, buf, header.size, params, inflater)
}

fn check_order(
    assembly: Option<&Assembly>,
    header: &Header,
    params: &Params,
) -> Result<(), Violation> {
    let first = header.opcode != Opcode::Continuation;
    match assembly {
        None if !first => return Err(Violation::protocol("continuation of nothing")),
        Some(_) if first => return Err(Violation::protocol("message inside another message")),
        None | Some(_) => {}
    }
    if header.rsv1 && (params.deflate.is_none() || !first) {
        return Err(Violation::protocol("reserved bit set"));
    }
    Ok(())
}

/// The payload's length, if the message is still within its limit.
fn check_size(
    assembly: Option<&Assembly>,
    header: &Header,
    params: &Params,
) -> Result<usize, Violation> {
    let (held, compressed) = match assembly {
        Some(started) => (started.data.len(), started.compressed),
        None => (0, header.rsv1),
    };
    let limit = if compressed {
        // Incompressible data grows a little; the inflater enforces the exact limit.
        params
            .message_bytes
            .saturating_add(params.message_bytes / 64 + 64)
    } else {
        params.message_bytes
    };
    usize::try_from(header.payload)
        .ok()
        .filter(|payload| *payload <= limit.saturating_sub(held))
        .ok_or(Violation::TOO_BIG)
}

fn whole_message<'a>(
    header: &Header,
    payload: usize,
    buf: &'a mut [u8],
    params: &Params,
    inflater: &mut Inflater,
) -> Result<Option<Step<'a>>, Violation> {
    let consumed = header.size + payload;
    let Some(data) = buf.get_mut(header.size..consumed) else {
        return Ok(None);
    };
    unmask(data, header.key);
    let data = if header.rsv1 {
        Cow::Owned(inflater.inflate(data, params.message_bytes)?)
    } else {
        Cow::Borrowed(&*data)
    };
    let message = finished(header.opcode == Opcode::Text, data)?;
    Ok(Some(Step {
        consumed,
        message: Some(message),
    }))
}

fn control<'a>(header: &Header, buf: &'a mut [u8]) -> Result<Option<Step<'a>>, Violation> {
    let payload = usize::try_from(header.payload).map_err(|_| Violation::TOO_BIG)?;
    let consumed = header.size + payload;
    let Some(data) = buf.get_mut(header.size..consumed) else {
        return Ok(None);
    };
    unmask(data, header.key);
    let data = &*data;
    let message = match header.opcode {
        Opcode::Ping => Message::Ping(data),
        Opcode::Pong => Message::Pong(data),
        Opcode::Close | Opcode::Continuation | Opcode::Text | Opcode::Binary => parse_close(data)?,
    };
    Ok(Some(Step {
        consumed,
        message: Some(message),
    }))
}

/// Parses a close frame's payload (RFC 6455 §5.5.1 and §7.4).
fn parse_close(payload: &[u8]) -> Result<Message<'_>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(Message::Close(None, "")),
            _ => Err(Violation::protocol("close frame of one byte")),
        };
    };
    let code = u16::from_be_bytes(*code);
    // 1004 to 1006 and 1015 must not be sent; 1012 to 1014 were registered later (IANA).
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::protocol("close code may not be sent"));
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Violation::NOT_UTF8)?;
    Ok(Message::Close(Some(code), reason))
}

/// Takes the received part of a frame of an assembled message; the payload continues at `start`.
fn resume<'a>(
    assembly: &mut Option<Box<Assembly>>,
    frame: OpenFrame,
    buf: &'a mut [u8],
    start: usize,
    params: &Params,
    inflater: &mut Inflater,
) -> Result<Option<Step<'a>>, Violation> {
    let Some(started) = assembly.as_deref_mut() else {
        return Ok(None);
    };
    let here = frame.missing.min(buf.len().saturating_sub(start));
    let consumed = start + here;
    if consumed == 0 {
        return Ok(None);
    }
    if let Some(part) = buf.get_mut(start..consumed) {
        unmask(part, frame.key);
        started.append(part, frame.missing);
    }
    started.check_text()?;
    if frame.missing > here {
        let key = turned(frame.key, here);
        started.frame = Some(OpenFrame {
            key,
            missing: frame.missing - here,
            ..frame
        });
        return Ok(Some(Step {
            consumed,
            message: None,
        }));
    }
    started.frame = None;
    if !frame.fin {
        return Ok(Some(Step {
            consumed,
            message: None,
        }));
    }
    let Some(Assembly {
        text,
        compressed,
        data,
        ..
    }) = assembly.take().map(|done| *done)
    else {
        return Ok(None);
    };
    let data = if compressed {
        inflater.inflate(&data, params.message_bytes)?
    } else {
        data
    };
    let message = finished(text, Cow::Owned(data))?;
    Ok(Some(Step {
        consumed,
        message: Some(message),
    }))
}

fn finished(text: bool, data: Cow<'_, [u8]>) -> Result<Message<'_>, Violation> {
    if !text {
        return Ok(Message::Binary(data));
    }
    let text = match data {
        Cow::Borrowed(data) => std::str::from_utf8(data).map(Cow::Borrowed).ok(),
        Cow::Owned(data) => String::from_utf8(data).map(Cow::Owned).ok(),
    };
    text.map(Message::Text).ok_or(Violation::NOT_UTF8)
}

impl Assembly {
    /// The memory used for the message, in bytes.
    #[must_use]
    pub fn held(&self) -> usize {
        self.data.capacity()
    }

    /// True if the last fragment has arrived completely.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.frame.is_none()
    }

    /// Adds a part of a frame of which `missing` bytes are outstanding.
    fn append(&mut self, part: &[u8], missing: usize) {
        if self.data.capacity() - self.data.len() < part.len() {
            let grown = (self.data.capacity() * 2).max(EAGER_BYTES);
            let announced = self.data.len() + missing;
            let wanted = announced.min(grown).max(self.data.len() + part.len());
            self.data.reserve_exact(wanted - self.data.len());
        }
        self.data.extend_from_slice(part);
    }

    /// Refuses text at the first byte that can't be UTF-8. An incomplete character at the end is
    /// detected when the message is complete.
    fn check_text(&mut self) -> Result<(), Violation> {
        if !self.text || self.compressed {
            return Ok(());
        }
        match std::str::from_utf8(self.data.get(self.valid..).unwrap_or_default()) {
            Ok(_) => self.valid = self.data.len(),
            Err(error) if error.error_len().is_some() => return Err(Violation::NOT_UTF8),
            Err(error) => self.valid += error.valid_up_to(),
        }
        Ok(())
    }
}
