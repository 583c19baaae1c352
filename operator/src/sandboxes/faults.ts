// Named places before and after each side effect, at which tests let the operator die to show that nothing is lost, left or untrue.

/** In the order in which an operation comes by them. */
export const faultPoints = [
  ...[
    'create.recorded',
    'start.recorded',
    'start.disk',
    'start.made',
    'start.started',
    'create.started',
    'create.configured',
    'create.done',
  ],
  ...['pause.frozen', 'pause.done', 'unpause.thawed', 'unpause.done'],
  ...['secrets.recorded', 'secrets.delivered'],
  ...['stop.begun', 'stop.killed', 'stop.detached', 'stop.done'],
  ...['resume.admitted', 'resume.disk', 'resume.started', 'resume.configured', 'resume.done'],
  ...['delete.recorded', 'delete.killed', 'delete.disk', 'delete.gone', 'delete.done'],
] as const
/** The same of copies of disks. */
export const copyFaultPoints = [
  ...['snapshot.recorded', 'still.frozen', 'snapshot.copied', 'snapshot.thawed', 'snapshot.packed', 'snapshot.done'],
  ...['fork.recorded', 'fork.begun', 'fork.made'],
] as const
export type FaultPoint = (typeof faultPoints)[number] | (typeof copyFaultPoints)[number]

let armed: FaultPoint | undefined

export const isFaultPoint = (name: string): name is FaultPoint => [...faultPoints, ...copyFaultPoints].some((point) => point === name)

/** @param point where this process dies when it comes by; undefined: nowhere */
export function armFault(point: FaultPoint | undefined): void {
  armed = point
}

/** Does nothing, unless a test has armed the point. @param id of the sandbox that comes by; the operator's own probes do not count */
export function faultPoint(point: FaultPoint, id: string): void {
  if (armed === point && !id.startsWith('probe-')) process.kill(process.pid, 'SIGKILL')
}
