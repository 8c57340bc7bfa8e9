#pragma once

// The one place where the test framework comes in.
#include <catch2/catch.hpp>
