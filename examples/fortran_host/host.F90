! A host model in small: columns in chunks as atmosphere models keep them, called from OpenMP threads.
!
!   host MODEL COLUMNS STEPS FOLDER
!
! COLUMNS holds raw little-endian float32: the inputs of a column one after the other, then the next column, for every column
! of the grid and every step. The host copies them into chunks of real64, column first, as CAM and E3SM do, calls the bundle
! for each chunk from a thread of its own, and writes what it got to FOLDER/chunks.bin in the order of COLUMNS. It then calls
! the bundle once for the chunks of a whole step, which is faster where chunks are small, and writes FOLDER/gathered.bin.
!
! BUNDLE_MODULE is the module of the bundle, which CMake defines. Exit code: 0 done, 1 failed, 77 built without FTorch.
program host
  use, intrinsic :: iso_fortran_env, only: error_unit, int8, int64, output_unit, real32, real64
  use omp_lib, only: omp_get_max_threads, omp_set_num_threads
  use BUNDLE_MODULE, only: finalise, init, message, n_in, n_out, pcols, run_chunks, run_columns, status_no_ftorch, status_ok
  implicit none

  ! What a physics package sees of a chunk: ncol columns of at most pcols, the rest of the room zero.
  type :: chunk_type
    integer :: ncol = 0
    integer :: first = 0
    real(real64) :: inputs(pcols, n_in) = 0
    real(real64) :: tendencies(pcols, n_out) = 0
  end type chunk_type

  type(chunk_type), allocatable :: chunks(:)
  real(real32), allocatable :: columns(:, :, :), answers(:, :, :)
  character(len=1024) :: folder
  integer :: grid, steps, step

  call begin()
  call cut_grid()
  call time_steps('chunks', .false.)
  call time_steps('gathered', .true.)
  call finalise()

contains

  ! Read the arguments and the columns, and load the model once.
  subroutine begin()
    character(len=1024) :: model, file, word
    integer :: status

    if (command_argument_count() /= 4) call fail('usage: host MODEL COLUMNS STEPS FOLDER')
    call get_command_argument(1, model)
    call get_command_argument(2, file)
    call get_command_argument(3, word)
    call get_command_argument(4, folder)
    read (word, *, iostat=status) steps
    if (status /= 0 .or. steps < 1) call fail('STEPS must be a positive number')
    call init(model, status)
    if (status == status_no_ftorch) then
      write (error_unit, '(a)') 'host: '//trim(message(status))//', so there is nothing to run'
      stop 77
    end if
    if (status /= status_ok) call fail(trim(model)//': '//trim(message(status)))
    call read_columns(trim(file))
  end subroutine begin

  subroutine fail(text)
    character(len=*), intent(in) :: text

    write (error_unit, '(a)') 'host: '//text
    stop 1
  end subroutine fail

  ! Bytes are read and not numbers: hosts are often compiled with options that swap those.
  subroutine read_columns(file)
    character(len=*), intent(in) :: file
    integer(int8), allocatable :: bytes(:)
    integer(int64) :: length
    integer :: unit, code

    inquire (file=file, size=length)
    grid = int(length / (4_int64 * n_in * steps))
    if (length < 1 .or. length /= 4_int64 * n_in * steps * grid) call fail(file//' does not hold whole columns')
    allocate (bytes(length), columns(n_in, grid, steps), answers(n_out, grid, steps))
    open (newunit=unit, file=file, access='stream', form='unformatted', action='read', status='old', iostat=code)
    if (code == 0) read (unit, iostat=code) bytes
    if (code /= 0) call fail('cannot read '//file)
    close (unit)
    columns = reshape(transfer(bytes, columns), shape(columns))
  end subroutine read_columns

  subroutine write_answers(name)
    character(len=*), intent(in) :: name
    integer :: unit, code

    open (newunit=unit, file=trim(folder)//'/'//name//'.bin', access='stream', form='unformatted', action='write', &
      status='replace', iostat=code)
    if (code == 0) write (unit, iostat=code) transfer(answers, [0_int8])
    if (code /= 0) call fail('cannot write '//trim(folder)//'/'//name//'.bin')
    close (unit)
  end subroutine write_answers

  ! Chunks of pcols columns, the last one of what is left.
  subroutine cut_grid()
    integer :: c

    allocate (chunks((grid + pcols - 1) / pcols))
    do c = 1, size(chunks)
      chunks(c)%first = (c - 1) * pcols + 1
      chunks(c)%ncol = min(pcols, grid - chunks(c)%first + 1)
    end do
  end subroutine cut_grid

  ! All steps in one way; says how long the calls took.
  subroutine time_steps(name, gathered)
    character(len=*), intent(in) :: name
    logical, intent(in) :: gathered
    integer(int64) :: started, ended, rate, spent
    real(real64) :: seconds

    spent = 0
    call system_clock(count_rate=rate)
    do step = 1, steps
      call fill_chunks()
      call system_clock(started)
      if (gathered) then
        call physics_gathered()
      else
        call physics()
      end if
      call system_clock(ended)
      spent = spent + ended - started
      call collect()
    end do
    call write_answers(name)
    seconds = real(spent, real64) / real(rate, real64)
    write (output_unit, '(a, a, i0, a, i0, a, i0, a, i0, a, f0.1, a)') name, ': ', steps, ' steps of ', grid, ' columns in ', &
      size(chunks), ' chunks on ', merge(1, omp_get_max_threads(), gathered), ' threads, ', 1e3 * seconds / steps, ' ms a step'
  end subroutine time_steps

  subroutine fill_chunks()
    integer :: c, i

    do c = 1, size(chunks)
      do i = 1, chunks(c)%ncol
        chunks(c)%inputs(i, :) = real(columns(:, chunks(c)%first + i - 1, step), real64)
      end do
      chunks(c)%tendencies = 1  ! to be replaced, in the padding too
    end do
  end subroutine fill_chunks

  ! Every chunk by itself: threads share the model, and libtorch uses no others within a parallel region.
  subroutine physics()
    integer :: c, status, worst

    worst = status_ok
    !$omp parallel do schedule(dynamic) private(status) reduction(max: worst)
    do c = 1, size(chunks)
      call run_columns(chunks(c)%ncol, chunks(c)%inputs, chunks(c)%tendencies, status)
      worst = max(worst, status)
    end do
    !$omp end parallel do
    if (worst /= status_ok) call fail('a chunk failed: '//trim(message(worst)))  ! endrun in a real model
  end subroutine physics

  ! One call for all chunks, on one thread so that answers can be compared to the last bit.
  subroutine physics_gathered()
    real(real64), allocatable :: x(:, :, :), y(:, :, :)
    integer :: c, status, threads

    allocate (x(n_in, pcols, size(chunks)), y(n_out, pcols, size(chunks)))
    do c = 1, size(chunks)
      x(:, :, c) = transpose(chunks(c)%inputs)
    end do
    threads = omp_get_max_threads()
    call omp_set_num_threads(1)
    call run_chunks(chunks%ncol, x, y, status)
    call omp_set_num_threads(threads)
    if (status /= status_ok) call fail('the chunks failed: '//trim(message(status)))
    do c = 1, size(chunks)
      chunks(c)%tendencies = transpose(y(:, :, c))
    end do
  end subroutine physics_gathered

  ! What each column got; the padding must have got nothing.
  subroutine collect()
    integer :: c, i, n

    do c = 1, size(chunks)
      n = chunks(c)%ncol
      do i = 1, n
        answers(:, chunks(c)%first + i - 1, step) = real(chunks(c)%tendencies(i, :), real32)
      end do
      if (any(abs(chunks(c)%tendencies(n + 1:, :)) > 0)) call fail('the padding of a chunk is not zero')
    end do
  end subroutine collect

end program host
