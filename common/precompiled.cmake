# Half of the time of a build from scratch is the standard library's headers, read again by each file. With
# APOGEE_PRECOMPILE they are compiled once for the libraries, once for the programs, once for the tests. The
# sanitizers' presets do so; "release" and "dev" build without, so that a missing #include is noticed (and clang-tidy
# reads "dev"; GCC 12 gains less from it, and raises a false alarm or two).
set(APOGEE_PRECOMPILED_HEADERS
  <algorithm> <array> <atomic> <charconv> <chrono> <condition_variable> <cstdint> <deque> <filesystem> <functional>
  <map> <memory> <mutex> <optional> <set> <span> <string> <string_view> <thread> <unordered_map> <utility> <variant>
  <vector> <fmt/format.h>)

# What ccache wants, so that it keeps what was built with them (tools/build.sh has the rest).
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  add_compile_options("SHELL:-Xclang -fno-pch-timestamp")
endif()

# apogee_precompile(target KIND [header ...] [ALWAYS header ...]) KIND: fuzzed, library, program (they differ in what
# position-independent means), test, test_support or mqbench. The first target of a kind owns the headers, to which the given ones are
# added; the others use them. Those behind ALWAYS are precompiled without APOGEE_PRECOMPILE too.
function(apogee_precompile target kind)
  cmake_parse_arguments(PARSE_ARGV 2 ARG "" "" "ALWAYS")
  set(headers ${ARG_ALWAYS})
  if(APOGEE_PRECOMPILE)
    list(PREPEND headers ${APOGEE_PRECOMPILED_HEADERS} ${ARG_UNPARSED_ARGUMENTS})
  endif()
  if(NOT headers)
    return()
  endif()
  get_property(owner GLOBAL PROPERTY apogee_precompiled_${kind})
  if(owner)
    target_precompile_headers(${target} REUSE_FROM ${owner})
  else()
    target_precompile_headers(${target} PRIVATE ${headers})
    set_property(GLOBAL PROPERTY apogee_precompiled_${kind} ${target})
  endif()
endfunction()

# apogee_fuzzed_sources(file ...): sources of a target that is not fuzzed as a whole.
function(apogee_fuzzed_sources)
  if(APOGEE_FUZZERS)
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "${APOGEE_FUZZED_OPTIONS}" SKIP_PRECOMPILE_HEADERS ON)
  endif()
endfunction()

# apogee_plain_sources(file ...): what only reads a command line, once. CLI11 costs the compiler ten seconds a file when
# it is optimized as the rest, and a minute when sanitizers instrument it too.
function(apogee_plain_sources)
  if(APOGEE_SANITIZE)
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "-fno-sanitize=all;-O0" SKIP_PRECOMPILE_HEADERS ON)
  else()
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "$<$<CONFIG:Release>:-O1>")
  endif()
endfunction()
