#!/usr/bin/env bash
# Example of a training job for Slurm: edit what is marked, then 'sbatch scripts/slurm.sh'.
#
# It assumes
# - Slurm, with an srun that can start your MPI ('srun --mpi=list' shows what it knows; add --mpi=... below if need be);
# - an environment .venv, visible on all nodes, whose mpi4py loads the site's MPI ('lenet-mp doctor' tells which one);
# - data and run folder on a file system that all nodes share. Ranks read different shards, only rank 0 writes;
# - that you may requeue your jobs (JobRequeue=1, the default).
#
# Slurm sends USR1 to all ranks 90 s before the time limit; they finish the step, write a checkpoint and exit with 143.
# The job then queues itself again under the same number and goes on where it stopped, to the same bits, also with
# other --nodes, --ntasks or --cpus-per-task, as long as the streams stay. --requeue does the same after a failure of a
# node or a preemption.
#
#SBATCH --job-name=lenet-mp
#SBATCH --nodes=2                # edit
#SBATCH --ntasks-per-node=4      # edit: ranks of a node; one for each socket is a good start
#SBATCH --cpus-per-task=16       # edit: cores of a rank
#SBATCH --time=01:00:00          # edit
#SBATCH --signal=USR1@90
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -uo pipefail

data=${DATA:-data}                               # edit: the folder that 'lenet-mp prepare' wrote
run=${RUN:-runs/$SLURM_JOB_NAME-$SLURM_JOB_ID}   # the job's number survives the requeue
streams=32                                       # edit: from the most ranks you will use to batch size / 16

. .venv/bin/activate
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
export OMP_PROC_BIND=close OMP_PLACES=cores

srun --cpus-per-task="$SLURM_CPUS_PER_TASK" python -m lenet_mp.train \
    --data "$data" --out "$run" --resume auto --streams "$streams" --progress lines "$@"
code=$?
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
