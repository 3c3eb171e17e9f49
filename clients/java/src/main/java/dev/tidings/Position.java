package dev.tidings;

/**
 * A position in a channel.
 *
 * @param epoch identifies one uninterrupted sequence of offsets
 * @param offset the offset of an event in it
 */
public record Position(String epoch, long offset) {
  /** Parses {@code EPOCH/OFFSET}, which {@link #toString} writes. */
  public static Position parse(String text) {
    int at = text.lastIndexOf('/');
    if (at < 1) {
      throw new IllegalArgumentException("expected EPOCH/OFFSET");
    }
    return new Position(text.substring(0, at), Long.parseUnsignedLong(text.substring(at + 1)));
  }

  @Override
  public String toString() {
    return epoch + "/" + Long.toUnsignedString(offset);
  }

  static Position of(dev.tidings.v1.Position message) {
    return new Position(message.getEpoch(), message.getOffset());
  }

  dev.tidings.v1.Position message() {
    return dev.tidings.v1.Position.newBuilder().setEpoch(epoch).setOffset(offset).build();
  }
}
