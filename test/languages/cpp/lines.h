// The text that the suite and its peers exchange: lines with percent-encoded values.
#pragma once

#include <cctype>
#include <cstdio>
#include <iostream>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

inline void say(const std::string& line) {
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  std::cout << line << std::endl;
}

inline std::string hex(const std::string& bytes, const char* before = "") {
  std::string out;
  char digits[4];
  for (unsigned char byte : bytes) {
    snprintf(digits, sizeof digits, "%02x", byte);
    out += std::string(before) + digits;
  }
  return out;
}

inline std::string unhex(const std::string& text) {
  std::string out;
  for (size_t at = 0; at + 1 < text.size(); at += 2) out += static_cast<char>(std::stoi(text.substr(at, 2), nullptr, 16));
  return out;
}

inline std::string encode(const std::string& bytes) {
  std::string out;
  for (char byte : bytes) {
    bool plain = isalnum(static_cast<unsigned char>(byte)) || std::string("-_.~").find(byte) != std::string::npos;
    out += plain ? std::string(1, byte) : hex(std::string(1, byte), "%");
  }
  return out;
}

inline std::string decode(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size(); at++) {
    if (text[at] == '%') {
      out += unhex(text.substr(at + 1, 2));
      at += 2;
    } else {
      out += text[at];
    }
  }
  return out;
}

inline std::vector<std::string> split(const std::string& text, char by) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, by);) parts.push_back(part);
  return parts;
}

inline bool isBinary(const std::string& name) {
  return name.size() > 4 && name.compare(name.size() - 4, 4, "-bin") == 0;
}

/** Bytes as every client sends them. */
inline std::string data(size_t size) {
  std::string bytes(size, 0);
  for (size_t i = 0; i < size; i++) bytes[i] = static_cast<char>(i * 31 + (i >> 8));
  return bytes;
}
