! Stands in for FTorch where it is not installed: the declarations that a bundle uses, with a model of one line.
!
! That model halves the first outputs(1)%sizes(2) inputs of each column, so that answers are known to the last bit and
! rows of zeros give zeros. As libtorch does, it raises flags and changes the number of threads of the host.
module ftorch
  use, intrinsic :: iso_c_binding, only: c_f_pointer, c_float, c_int, c_int64_t, c_null_ptr, c_ptr
  use, intrinsic :: ieee_exceptions, only: ieee_set_flag, ieee_usual
  !$ use omp_lib, only: omp_set_num_threads
  implicit none
  private
  public :: torch_delete, torch_model, torch_model_forward, torch_model_load, torch_tensor, torch_tensor_from_blob

  integer(c_int), parameter, public :: torch_kCPU = 0, torch_kFloat32 = 6

  type :: torch_model
    logical :: loaded = .false.
  end type torch_model

  type :: torch_tensor
    type(c_ptr) :: p = c_null_ptr
    integer(c_int64_t) :: sizes(2) = 0
  end type torch_tensor

  interface torch_delete
    module procedure delete_model, delete_tensor
  end interface torch_delete

contains

  subroutine torch_model_load(model, filename, device_type)
    type(torch_model), intent(out) :: model
    character(len=*), intent(in) :: filename
    integer(c_int), intent(in) :: device_type

    model%loaded = len(filename) > 0 .and. device_type == torch_kCPU
  end subroutine torch_model_load

  subroutine torch_tensor_from_blob(tensor, data, ndims, tensor_shape, layout, dtype, device_type)
    type(torch_tensor), intent(out) :: tensor
    type(c_ptr), intent(in) :: data
    integer(c_int), intent(in) :: ndims, layout(:), dtype, device_type
    integer(c_int64_t), intent(in) :: tensor_shape(:)

    if (ndims /= 2 .or. any(layout /= [2, 1]) .or. dtype /= torch_kFloat32 .or. device_type /= torch_kCPU) error stop
    tensor%p = data
    tensor%sizes = tensor_shape
  end subroutine torch_tensor_from_blob

  subroutine torch_model_forward(model, input_tensors, output_tensors)
    type(torch_model), intent(in) :: model
    type(torch_tensor), intent(in) :: input_tensors(:), output_tensors(:)
    real(c_float), pointer :: x(:, :), y(:, :)

    if (.not. model%loaded) error stop 'the model is not loaded'
    call c_f_pointer(input_tensors(1)%p, x, int([input_tensors(1)%sizes(2), input_tensors(1)%sizes(1)]))
    call c_f_pointer(output_tensors(1)%p, y, int([output_tensors(1)%sizes(2), output_tensors(1)%sizes(1)]))
    y = 0.5 * x(1:size(y, 1), :)
    where (x(1:size(y, 1), :) > 1e38) y = 1e30 * x(1:size(y, 1), :)
    call ieee_set_flag(ieee_usual, .true.)
    !$ call omp_set_num_threads(1)
  end subroutine torch_model_forward

  subroutine delete_model(model)
    type(torch_model), intent(inout) :: model

    model%loaded = .false.
  end subroutine delete_model

  subroutine delete_tensor(tensor)
    type(torch_tensor), intent(inout) :: tensor

    tensor%p = c_null_ptr
  end subroutine delete_tensor

end module ftorch
