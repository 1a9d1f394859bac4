# bash completion for emailctl; installed as share/bash-completion/completions/emailctl

_emailctl() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command= word i
    local common='--help --env-file --kafka-brokers --kafka-config --timeout'
    local filters='--reason --since --until --type --message-id --limit'
    COMPREPLY=()

    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case "$command $word" in
        ' publish' | ' dlq' | ' check') command=$word ;;
        'dlq list' | 'dlq show' | 'dlq redrive' | 'dlq purge') command="dlq $word" ;;
        esac
    done

    case "$prev" in
    --env-file | --text-file | --html-file | --attach | --smtp-ca-file)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --reason)
        mapfile -t COMPREPLY < <(compgen -W 'invalid_event too_large expired template_error rejected
            retries_exhausted id_conflict ambiguous' -- "$cur")
        return
        ;;
    --since | --until | --before)
        mapfile -t COMPREPLY < <(compgen -W '15m 2h 1d 1w' -- "$cur")
        return
        ;;
    esac

    case "$command" in
    '') word="publish dlq check --help --version" ;;
    publish) word="--to --cc --bcc --from --reply-to --subject --text --html --text-file --html-file --type
        --message-id --template --data --locale --attach --header --expires-in --metadata --key --dry-run $common" ;;
    dlq) word='list show redrive purge --help' ;;
    'dlq list') word="$filters --json $common" ;;
    'dlq show') word="--message-id --json $common" ;;
    'dlq redrive') word="$filters --rate --max-redrives --again --force --dry-run $common" ;;
    'dlq purge') word="--before --all --yes --dry-run $common" ;;
    check) word="--json $common" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$word" -- "$cur")
}

complete -F _emailctl emailctl
