/* The CGI suite's compiled script; built static, so that exec is all that its start costs. */

#include <unistd.h>

int main(void)
{
    static const char ANSWER[] = "Content-Type: text/plain\r\n\r\nHello from a script!\n";
    return write(1, ANSWER, sizeof ANSWER - 1) == sizeof ANSWER - 1 ? 0 : 1;
}
