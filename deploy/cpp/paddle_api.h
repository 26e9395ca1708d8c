// The part of Paddle Inference's C++ interface that engine_paddle_inference.cc calls. The wheel of
// paddlepaddle holds the compiled functions but not the header that declares them; with a release
// of paddle_inference (cmake -DPADDLE_LIB=...) its own header is taken instead.
//
// These classes have members that are not declared here. So nothing of them is made, copied or
// destroyed by our code, except the configuration, whose constructors and destructor are compiled
// into Paddle. That holds for one release: CMakeLists.txt accepts 3.3 only.
#pragma once

#include <memory>
#include <string>
#include <vector>

namespace paddle {

struct AnalysisConfig {
  AnalysisConfig(const std::string& model_file, const std::string& params_file);
  AnalysisConfig(const AnalysisConfig&);
  ~AnalysisConfig();
  void DisableGpu();
  void DisableGlogInfo();
  void SetCpuMathLibraryNumThreads(int count);

 private:
  alignas(16) unsigned char members_[16384];  // more than it needs, in 3.3
};

}  // namespace paddle

namespace paddle_infer {

using Config = paddle::AnalysisConfig;

class Tensor {
 public:
  void Reshape(const std::vector<int>& shape);
  std::vector<int> shape() const;
  template <typename T>
  void CopyFromCpu(const T* data);
  template <typename T>
  void CopyToCpu(T* data) const;
};
extern template void Tensor::CopyFromCpu<float>(const float*);
extern template void Tensor::CopyToCpu<float>(float*) const;

class Predictor {
 public:
  std::vector<std::string> GetInputNames();
  std::vector<std::string> GetOutputNames();
  std::unique_ptr<Tensor> GetInputHandle(const std::string& name);
  std::unique_ptr<Tensor> GetOutputHandle(const std::string& name);
  bool Run();
};

std::shared_ptr<Predictor> CreatePredictor(const Config& config);

}  // namespace paddle_infer
