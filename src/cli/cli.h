/* cli: the verbs of forksafe; each returns the exit status. `argv[0]` is the verb. */
#pragma once

int fsafe_cli_explain(int argc, char **argv);
int fsafe_cli_check(int argc, char **argv);
int fsafe_cli_status(int argc, char **argv);
