//! Messages as their bytes: `message Chunk { bytes data = 1; }`.
use bytes::{Buf, BufMut};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

#[derive(Default)]
pub struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for BytesCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; from.remaining()];
        from.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

/// A message whose data has this size.
pub fn message(size: usize) -> Vec<u8> {
    let mut message = Vec::with_capacity(size + 6);
    if size == 0 {
        return message;
    }
    message.push(0x0a);
    let mut rest = size;
    while rest >= 128 {
        message.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    message.push(rest as u8);
    message.extend((0..size).map(|i| (i * 31 + (i >> 8)) as u8));
    message
}

/// The data of a message.
pub fn data(message: &[u8]) -> &[u8] {
    if message.is_empty() {
        return message;
    }
    let length = message[1..].iter().position(|byte| byte & 0x80 == 0).unwrap_or(0) + 1;
    &message[1 + length..]
}
