#include "tools/mqbench/run/figures.h"

namespace mqbench {
std::string html_of(const RunResult& result) { return "<pre>" + text_of(result) + "</pre>"; }
}  // namespace mqbench
