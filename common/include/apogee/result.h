#pragma once

#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "apogee/error.h"

namespace apogee {

/// A value or an Error. Member names are those of std::expected, so that C++23 can replace it.
/// Reading the wrong side is a bug of the caller and throws std::bad_variant_access.
template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;

  template <typename U = T,
            typename = std::enable_if_t<std::is_constructible_v<T, U&&> && !std::is_same_v<std::decay_t<U>, Result> &&
                                        !std::is_same_v<std::decay_t<U>, Error>>>
  Result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool has_value() const { return state_.index() == 0; }
  explicit operator bool() const { return has_value(); }

  [[nodiscard]] T& value() & { return std::get<0>(state_); }
  [[nodiscard]] const T& value() const& { return std::get<0>(state_); }
  [[nodiscard]] T&& value() && { return std::get<0>(std::move(state_)); }
  [[nodiscard]] T& operator*() & { return value(); }
  [[nodiscard]] const T& operator*() const& { return value(); }
  [[nodiscard]] T&& operator*() && { return std::move(*this).value(); }
  [[nodiscard]] T* operator->() { return &value(); }
  [[nodiscard]] const T* operator->() const { return &value(); }

  template <typename U>
  [[nodiscard]] T value_or(U&& fallback) const& {
    return has_value() ? value() : static_cast<T>(std::forward<U>(fallback));
  }

  [[nodiscard]] Error& error() & { return std::get<1>(state_); }
  [[nodiscard]] const Error& error() const& { return std::get<1>(state_); }
  [[nodiscard]] Error&& error() && { return std::get<1>(std::move(state_)); }

  /// Drops the result on purpose; the reason is for the reader and for grep.
  void ignore(const char* /*why*/) const {}

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;

  Result() = default;
  Result(Error error) : error_(std::move(error)) {}

  [[nodiscard]] bool has_value() const { return !error_.has_value(); }
  explicit operator bool() const { return has_value(); }
  [[nodiscard]] Error& error() & { return error_.value(); }
  [[nodiscard]] const Error& error() const& { return error_.value(); }
  [[nodiscard]] Error&& error() && { return std::move(error_).value(); }
  void ignore(const char* /*why*/) const {}

 private:
  std::optional<Error> error_;
};

/// Success without a value, or an Error.
using Status = Result<void>;

}  // namespace apogee

#define APOGEE_CONCAT_INNER(a, b) a##b
#define APOGEE_CONCAT(a, b) APOGEE_CONCAT_INNER(a, b)

/// Returns the Error of a Result-typed expression from the enclosing function; else goes on.
#define APOGEE_TRY(expression) \
  do { \
    auto apogee_try_result = (expression); \
    if (!apogee_try_result) return std::move(apogee_try_result).error(); \
  } while (false)

/// Declares or assigns `target` from a Result-typed expression, or returns its Error.
#define APOGEE_TRY_ASSIGN(target, expression) \
  APOGEE_TRY_ASSIGN_INNER(APOGEE_CONCAT(apogee_try_, __LINE__), target, expression)
// NOLINTBEGIN(bugprone-macro-parentheses): the target may be a declaration
#define APOGEE_TRY_ASSIGN_INNER(temporary, target, expression) \
  auto temporary = (expression); \
  if (!temporary) return std::move(temporary).error(); \
  target = std::move(temporary).value()
// NOLINTEND(bugprone-macro-parentheses)
