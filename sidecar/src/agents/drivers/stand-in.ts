// A folder for one run that stands in for the one in which a harness keeps what is the user's.
import type { TurnContext } from '../harness.ts'
import { readRecords } from './side-log.ts'

export interface StandIn {
  /** The user's folder. It is made if need be, with the folders of `kept`, so that what the run leaves there lasts. */
  readonly own: string
  readonly place: string
  readonly kept: readonly string[]
  /** Names that the run has files of its own for, and nothing of the user's. */
  readonly replaced: readonly string[]
  /** Folders that hold the user's entries and those of the run. */
  readonly extended: readonly string[]
}

/** Everything in it is the user's, by links, but what is replaced. */
export async function standIn(context: TurnContext, { own, place, kept, replaced, extended }: StandIn): Promise<void> {
  const inside = (folder: string, names: readonly string[]): string => names.map((name) => `"${folder}/${name}"`).join(' ')
  const script = `
    mkdir -p ${inside('$0', kept)} ${inside('$1', extended)}
    for entry in "$0"/* "$0"/.env; do
      case "\${entry##*/}" in ${[...replaced, ...extended].join(' | ')}) ;; *) [ ! -e "$entry" ] || ln -s "$entry" "$1"/ ;; esac
    done
    for folder in ${extended.join(' ')}; do
      for entry in "$0/$folder"/*; do [ ! -e "$entry" ] || ln -s "$entry" "$1/$folder/"; done
    done`
  await readRecords(context, script, own, place)
}
