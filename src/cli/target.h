/*
 * cli/target: whether the library can be in the program that is to be started.
 */
#ifndef FSAFE_CLI_TARGET_H
#define FSAFE_CLI_TARGET_H

/*
 * Why `library` cannot be in `command`, looked for as execvp does, or NULL: also for what is no program at all. For a
 * script the answer is its interpreter's.
 */
const char *fsafe_target_objection(const char *command, const char *library);

#endif
