// A mistake the user can mend: what was received, what is allowed, what to run next.
#pragma once

#include <stdexcept>
#include <string>

struct UserError : std::runtime_error {
  explicit UserError(const std::string& message, const std::string& hint = "")
      : std::runtime_error(hint.empty() ? message : message + "\n  next: " + hint) {}
};
