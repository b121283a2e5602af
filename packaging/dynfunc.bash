# SPDX-License-Identifier: MIT
# Completion of the command dynfunc for bash.
_dynfunc() {
    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} word=${COMP_WORDS[1]} i
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W 'check list trace --help' -- "$current")
        return
    fi
    case $word in
        trace)
            for ((i = 2; i < COMP_CWORD; ++i)); do
                [[ ${COMP_WORDS[i]} == -- ]] || continue
                # The program, then its arguments.
                if ((i + 1 == COMP_CWORD)); then
                    mapfile -t COMPREPLY < <(compgen -c -- "$current")
                else
                    mapfile -t COMPREPLY < <(compgen -f -- "$current")
                fi
                return
            done
            case $before in
                -o|--output) mapfile -t COMPREPLY < <(compgen -f -- "$current") ;;
                -m|--module|-f|--function|--top|--every|--max-active|--max-events) ;;
                --format) mapfile -t COMPREPLY < <(compgen -W 'json folded chrome' -- "$current") ;;
                *) mapfile -t COMPREPLY < <(compgen -W '--module --function --return --stacks --breakpoints --max-active --top --every
                       --output --format --max-events --help --' -- "$current") ;;
            esac ;;
        list)
            case $before in
                -m|--module|-f|--function) ;;
                *) mapfile -t COMPREPLY < <(compgen -W '--module --function --help' -- "$current"; compgen -c -- "$current") ;;
            esac ;;
        check) mapfile -t COMPREPLY < <(compgen -W '--all --json --help' -- "$current"; compgen -f -- "$current") ;;
    esac
}
complete -o filenames -F _dynfunc dynfunc
