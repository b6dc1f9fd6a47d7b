package languages;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;

/** The text that the suite and its peers exchange: lines with percent-encoded values. */
final class Lines {
  static synchronized void say(String line) {
    System.out.println(line);
    System.out.flush();
  }

  static String encode(String text) {
    StringBuilder out = new StringBuilder();
    for (byte b : text.getBytes(StandardCharsets.UTF_8)) {
      char c = (char) (b & 0xff);
      if (c < 128 && (Character.isLetterOrDigit(c) || "-_.~".indexOf(c) >= 0)) out.append(c);
      else out.append(String.format("%%%02X", b & 0xff));
    }
    return out.toString();
  }

  static String decode(String text) {
    ByteArrayOutputStream out = new ByteArrayOutputStream();
    for (int at = 0; at < text.length(); at++) {
      char c = text.charAt(at);
      if (c != '%') {
        out.write(c);
      } else {
        out.write(Integer.parseInt(text.substring(at + 1, at + 3), 16));
        at += 2;
      }
    }
    return out.toString(StandardCharsets.UTF_8);
  }

  static String hex(byte[] bytes) {
    StringBuilder out = new StringBuilder();
    for (byte b : bytes) out.append(String.format("%02x", b & 0xff));
    return out.toString();
  }

  static byte[] unhex(String text) {
    byte[] bytes = new byte[text.length() / 2];
    for (int i = 0; i < bytes.length; i++) bytes[i] = (byte) Integer.parseInt(text.substring(2 * i, 2 * i + 2), 16);
    return bytes;
  }
}
