#include "tools/mqadmin/command_line.h"

int main(int argc, char** argv) { return mqadmin::run_command_line(argc, argv); }
