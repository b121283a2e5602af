// SPDX-License-Identifier: MIT
#include "connection.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace dynfunc::trace {

bool Connection::open() noexcept {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::size_t size = std::min(std::strlen(name_), sizeof address.sun_path - 1);
    std::memcpy(address.sun_path + 1, name_, size);
    const int file = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (file < 0) return false;
    // The numbers that the program's own files get are what they would be.
    constexpr int out_of_the_way = 1000;
    file_ = fcntl(file, F_DUPFD_CLOEXEC, out_of_the_way);
    if (file_ < 0) file_ = fcntl(file, F_DUPFD_CLOEXEC, 0);
    ::close(file);
    const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + size);
    return file_ >= 0 && fstat(file_, &identity_) == 0 &&
           ::connect(file_, reinterpret_cast<const sockaddr*>(&address), bytes) == 0;
}

void Connection::close() noexcept {
    if (is_ours()) ::close(file_);
}

int Connection::ask_for_recording() noexcept {
    std::uint32_t version = 0;
    int recording = -1;
    std::array<char, 16> program{};  // as the kernel calls a thread
    prctl(PR_GET_NAME, program.data());
    program_ = program.data();
    if (!say(Word::hello, RecordingHeader::known_version, program_) || !hear(Word::settings, version, recording)) return -1;
    if (version == RecordingHeader::known_version) return recording;
    if (recording >= 0) ::close(recording);
    return -1;
}

void Connection::say_hello() noexcept { static_cast<void>(say(Word::hello, RecordingHeader::known_version, program_)); }

FunctionList* Connection::ask_for_functions(const std::string& path) noexcept {
    std::uint32_t count = 0;
    int file = -1;
    if (!say(Word::object, 0, path) || !hear(Word::functions, count, file) || file < 0) return nullptr;
    void* const memory = mmap(nullptr, FunctionList::bytes(count), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    return memory == MAP_FAILED ? nullptr : static_cast<FunctionList*>(memory);
}

// Programs close files that they have not opened, and then open others.
bool Connection::is_ours() const noexcept {
    struct stat now {};
    return fstat(file_, &now) == 0 && now.st_dev == identity_.st_dev && now.st_ino == identity_.st_ino;
}

bool Connection::say(Word word, std::uint32_t value, const std::string& path) noexcept {
    Message message{word, value, {}};
    path.copy(message.path, sizeof message.path - 1);
    const std::size_t bytes = offsetof(Message, path) + (path.empty() ? 0 : path.size() + 1);
    return is_ours() && send(file_, &message, bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes);
}

// `file`: what came with it, or -1.
bool Connection::hear(Word expected, std::uint32_t& value, int& file) noexcept {
    Message message{};
    iovec part{&message, offsetof(Message, path)};
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int))> control{};
    msghdr got{};
    got.msg_iov = &part;
    got.msg_iovlen = 1;
    got.msg_control = control.data();
    got.msg_controllen = control.size();
    ssize_t bytes = 0;
    while ((bytes = recvmsg(file_, &got, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR) {
    }
    file = -1;
    if (const cmsghdr* const first = CMSG_FIRSTHDR(&got); first != nullptr && first->cmsg_type == SCM_RIGHTS)
        std::memcpy(&file, CMSG_DATA(first), sizeof file);
    value = message.value;
    return bytes == static_cast<ssize_t>(part.iov_len) && message.word == expected;
}

}  // namespace dynfunc::trace
