//! The names of keys and topics.
//!
//! Channels are spread over buckets by a hash. A bucket's name is the hash tag of all its keys and
//! topics, so that Redis Cluster keeps them in one slot: a script then reaches everything of a
//! channel, and 256 sharded topics are all the channels of a namespace.

use crate::event::ChannelName;

/// How many buckets there are. Part of the format: another number would move channels.
pub(super) const BUCKETS: u16 = 256;

/// The slots of Redis Cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The bucket of a channel.
pub(super) fn bucket(channel: &ChannelName) -> u8 {
    let [low, ..] = xxhash_rust::xxh3::xxh3_64(channel.as_str().as_bytes()).to_le_bytes();
    low
}

/// The slot of a bucket in Redis Cluster: the CRC16 (XMODEM) of the hash tag.
pub(super) fn slot(bucket: u8) -> u16 {
    let mut sum = 0_u16;
    for byte in format!("{bucket:02x}").bytes() {
        sum ^= u16::from(byte) << 8;
        for _ in 0..8 {
            let carry = sum & 0x8000 != 0;
            sum <<= 1;
            if carry {
                sum ^= 0x1021;
            }
        }
    }
    sum % SLOTS
}

/// The keys of one cluster, all of which start with its name.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    name: Box<str>,
}

impl Keys {
    pub(super) fn new(name: &str) -> Self {
        Keys { name: name.into() }
    }

    fn key(&self, bucket: u8, rest: &str) -> String {
        format!("{}:{{{bucket:02x}}}:{rest}", self.name)
    }

    /// The generation of a bucket's data.
    pub(super) fn generation(&self, bucket: u8) -> String {
        self.key(bucket, "g")
    }

    /// The names of a bucket's channels.
    pub(super) fn index(&self, bucket: u8) -> String {
        self.key(bucket, "x")
    }

    /// What the keys of a bucket's channels start with.
    pub(super) fn channels(&self, bucket: u8) -> String {
        self.key(bucket, "c:")
    }

    /// A channel's epoch and newest offset.
    pub(super) fn channel(&self, channel: &ChannelName) -> String {
        self.key(bucket(channel), &format!("c:{channel}"))
    }

    /// A channel's events.
    pub(super) fn stream(&self, channel: &ChannelName) -> String {
        self.key(bucket(channel), &format!("s:{channel}"))
    }

    /// An idempotency key of a channel, by its digest.
    pub(super) fn idempotency(&self, channel: &ChannelName, digest: &str) -> String {
        self.key(bucket(channel), &format!("k:{digest}"))
    }

    /// The topic of a channel.
    pub(super) fn topic(&self, channel: &ChannelName) -> String {
        self.key(bucket(channel), &format!("e:{channel}"))
    }

    /// The topic of a namespace's channels in a bucket.
    pub(super) fn namespace_topic(&self, bucket: u8, namespace: &str) -> String {
        self.key(bucket, &format!("n:{namespace}"))
    }

    /// The topic of all channels in a bucket.
    pub(super) fn bucket_topic(&self, bucket: u8) -> String {
        self.key(bucket, "a")
    }

    /// The topics to which an event of a channel goes.
    pub(super) fn topics(&self, channel: &ChannelName) -> [String; 3] {
        let bucket = bucket(channel);
        [
            self.topic(channel),
            self.namespace_topic(bucket, channel.namespace()),
            self.bucket_topic(bucket),
        ]
    }

    /// The topic of messages to a process, or to all.
    pub(super) fn nodes_topic(&self, bucket: u8, process: Option<u64>) -> String {
        match process {
            Some(process) => self.key(bucket, &format!("m:{process:x}")),
            None => self.key(bucket, "m"),
        }
    }

    /// Who has a node's number.
    pub(super) fn node(&self, bucket: u8, number: u16) -> String {
        self.key(bucket, &format!("node:{number}"))
    }

    /// What every node watches, and until when it is kept.
    pub(super) fn entries(&self, bucket: u8) -> [String; 2] {
        [self.key(bucket, "r"), self.key(bucket, "rt")]
    }

    /// The cursors of durable subscriptions: positions, order, times of use.
    pub(super) fn cursors(&self, bucket: u8) -> [String; 3] {
        [
            self.key(bucket, "cp"),
            self.key(bucket, "co"),
            self.key(bucket, "ct"),
        ]
    }

    /// The topic of events that go straight to their audience, of nodes with this bucket.
    pub(super) fn direct_topic(&self, bucket: u8) -> String {
        self.key(bucket, "d")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        // As `redis-cli cluster keyslot 00` and `ff` answer.
        assert_eq!((slot(0x00), slot(0xff)), (13_254, 11_756));
    }

    #[test]
    fn buckets_are_spread_over_the_slots() {
        for masters in [3_u16, 6, 12] {
            let mut counts = vec![0_u16; usize::from(masters)];
            for bucket in 0..BUCKETS {
                let bucket = u8::try_from(bucket).unwrap();
                let master = u32::from(slot(bucket)) * u32::from(masters) / u32::from(SLOTS);
                counts[usize::try_from(master).unwrap()] += 1;
            }
            let fair = BUCKETS / masters;
            assert!(
                counts.iter().all(|n| *n > fair / 2 && *n < fair * 2),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn all_keys_of_a_channel_have_one_hash_tag() {
        let (keys, channel) = (Keys::new("live"), ChannelName::new("match:1").unwrap());
        let tag = format!("{{{:02x}}}", bucket(&channel));
        let all = [
            keys.generation(bucket(&channel)),
            keys.index(bucket(&channel)),
            keys.channel(&channel),
            keys.stream(&channel),
            keys.idempotency(&channel, "00"),
        ];
        for key in all.iter().chain(&keys.topics(&channel)) {
            assert!(key.starts_with("live:") && key.contains(&tag), "{key}");
        }
    }
}
